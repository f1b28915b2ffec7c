// SPDX-License-Identifier: Apache-2.0
//
// A worker's tie to its coordinator's control port: it registers, shows as
// often as it is told to that it lives, and finds its peers on the rendezvous
// board.
#ifndef WORKER_SERVICE_CLUSTER_LINK_H_
#define WORKER_SERVICE_CLUSTER_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "worker/collective/key_board.h"

namespace quire {

struct ClusterLinkOptions {
  std::string coordinator;       // "host:port" of the control port
  std::string address;           // where the coordinator reaches this worker
  uint64_t instance_id = 0;      // random: tells a restart from a reconnect
  std::string device;            // "cpu" or "cuda"
  std::optional<int32_t> group;  // wanted; unset: any
  std::optional<int32_t> rank;   // likewise
  std::string version;
  // For the coordinator to be there: workers may start first.
  absl::Duration join_timeout = absl::Seconds(60);
};

// The seat that the coordinator gave.
struct Membership {
  int32_t group = 0;
  int32_t rank = 0;
  int32_t world_size = 1;
  Epoch coordinator_epoch;
  Epoch group_epoch;
  absl::Duration heartbeat_period;
  // Of the coordinator's silence that this worker bears. At least 3 s.
  absl::Duration heartbeat_timeout;
};

// Thread-safe.
class ClusterLink {
 public:
  // Registers and starts the heartbeat. `last_step` is called on the heartbeat
  // thread and tells the executor's progress. `on_lost` is called once, on a
  // thread of the link, when the coordinator is gone, has answered nothing for
  // the heartbeat timeout and a second, or has ended the epoch; not after the
  // destructor has begun.
  // Unavailable when nobody answers in time; else the coordinator's refusal.
  static absl::StatusOr<std::unique_ptr<ClusterLink>> Join(
      const ClusterLinkOptions& options, std::function<StepId()> last_step,
      std::function<void(const absl::Status& cause)> on_lost);

  virtual ~ClusterLink() = default;

  virtual const Membership& membership() const = 0;

  // Of this worker's group and epoch. Lives as long as the link.
  virtual KeyBoard* board() = 0;
};

}  // namespace quire

#endif  // WORKER_SERVICE_CLUSTER_LINK_H_
