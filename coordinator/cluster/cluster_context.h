// SPDX-License-Identifier: Apache-2.0
//
// What the control port's service and status share.
#ifndef COORDINATOR_CLUSTER_CLUSTER_CONTEXT_H_
#define COORDINATOR_CLUSTER_CLUSTER_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/cluster/rendezvous_board.h"
#include "coordinator/cluster/worker_registry.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// What a drain left behind.
struct DrainOutcome {
  uint32_t num_finished = 0;
  uint32_t num_aborted = 0;
};

// All borrowed; outlives the service.
struct ClusterContext {
  Clock* clock = nullptr;
  WorkerRegistry* registry = nullptr;
  RendezvousBoard* board = nullptr;
  std::vector<const EngineClient*> engines;  // by group
  std::string version;
  std::string model;
  std::string public_address;  // set before the first Status
  absl::Time started;
  // A group's last rank has joined.
  std::function<void(const FormedGroup&)> on_formed;
  // Blocks until no request is left.
  std::function<DrainOutcome(absl::Time deadline)> drain;
  std::function<bool()> is_draining;
};

}  // namespace quire

#endif  // COORDINATOR_CLUSTER_CLUSTER_CONTEXT_H_
