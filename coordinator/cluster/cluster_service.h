// SPDX-License-Identifier: Apache-2.0
//
// The gRPC service of the control port: workers join and report, operators look
// and drain. Thin, like the public one.
#ifndef COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_
#define COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_

#include <memory>

#include "coordinator/cluster/cluster_context.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace quire {

// The service; destroying it waits for drains that it began.
std::unique_ptr<grpc::Service> MakeClusterService(
    const ClusterContext* cluster);

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_
