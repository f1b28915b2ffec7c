// SPDX-License-Identifier: Apache-2.0
//
// The cluster at a glance, as quire.v1.StatusResponse.
#ifndef COORDINATOR_CLUSTER_CLUSTER_STATUS_H_
#define COORDINATOR_CLUSTER_CLUSTER_STATUS_H_

#include "coordinator/cluster/cluster_context.h"
#include "proto/cluster.pb.h"

namespace quire {

void FillStatus(const ClusterContext& cluster, v1::StatusResponse* response);

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_CLUSTER_STATUS_H_
