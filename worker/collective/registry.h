// SPDX-License-Identifier: Apache-2.0
//
// From the name that --collective gives to the thing.
#ifndef WORKER_COLLECTIVE_REGISTRY_H_
#define WORKER_COLLECTIVE_REGISTRY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/group_end.h"
#include "worker/collective/key_board.h"

namespace quire {

struct CollectiveOptions {
  int32_t rank = 0;
  int32_t world_size = 1;
  // How many of the ranks are on this machine.
  int32_t num_local_ranks = 1;
  // An address of this machine that the peers reach.
  std::string host = "127.0.0.1";
  absl::Duration connect_timeout = absl::Seconds(60);
  absl::Duration operation_timeout = absl::Seconds(60);
  // The GPU whose memory AllReduceSum is given, and the stream to enqueue it on
  // (Backend::native_stream). Unset: it is given host memory.
  std::optional<int32_t> gpu;
  void* stream = nullptr;
  // See ConnectNccl; the others always add in rank order.
  bool is_deterministic = false;
  // May be null; must live longer than the collective.
  const GroupEnd* group_end = nullptr;
};

// The names, for help texts: "auto, gloo, ...".
std::string CollectiveNames();

// OK if `name` is one of the names.
absl::Status CheckCollectiveName(const std::string& name);

// Connects to the group's other ranks; a group of one needs none. Unavailable
// if a peer does not join. `board` is not used after this returns.
absl::StatusOr<std::unique_ptr<Collective>> CreateCollective(
    const std::string& name, const CollectiveOptions& options, KeyBoard* board);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_REGISTRY_H_
