// SPDX-License-Identifier: Apache-2.0
//
// Ranks in processes of their own, connected by Gloo over TCP.
#ifndef WORKER_COLLECTIVE_GLOO_H_
#define WORKER_COLLECTIVE_GLOO_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/key_board.h"

namespace quire {

struct GlooOptions {
  int32_t rank = 0;
  int32_t world_size = 1;
  // The address that this rank listens on and its peers can reach.
  std::string host = "127.0.0.1";
  // For all peers to join.
  absl::Duration connect_timeout = absl::Seconds(60);
  // For peers to take part in an operation. A peer that dies is noticed at
  // once, by its socket; this bounds one that hangs.
  absl::Duration operation_timeout = absl::Seconds(60);
};

// Connects to every peer. Only Gloo's point-to-point messages are used: its own
// all-reduce adds in an order that depends on the message's size, and ours must
// add in rank order whatever the batch (see Collective). Small messages go from
// each rank to each other at once; large ones are added up in parts, one a
// rank, and the sums sent round.
//
// Unavailable when a peer does not join in time. `board` is not used after
// this returns.
absl::StatusOr<std::unique_ptr<Collective>> ConnectGloo(
    const GlooOptions& options, KeyBoard* board);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_GLOO_H_
