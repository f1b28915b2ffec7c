// SPDX-License-Identifier: Apache-2.0
//
// Ranks of one machine whose GPUs reach each other's memory, adding up by
// kernels of our own.
#ifndef WORKER_COLLECTIVE_PEER_H_
#define WORKER_COLLECTIVE_PEER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/key_board.h"
#include "worker/collective/peer_watch.h"

namespace quire {

struct PeerOptions {
  int32_t rank = 0;
  int32_t world_size = 1;
  int32_t device = 0;      // this rank's GPU; no two ranks share one
  void* stream = nullptr;  // the backend's (Backend::native_stream)
  // The library adds in an order of its own where there are more than two.
  bool is_deterministic = false;
  absl::Duration connect_timeout = absl::Seconds(60);
  // That a kernel waits for a peer which lives, but does not come.
  absl::Duration operation_timeout = absl::Seconds(60);
  // Whether there must be kernels of our own; else, where GPUs do not reach
  // each other, a line in the log says why and the library does it all.
  bool is_required = false;
  // Whether `beside` adds up on devices, too: NCCL.
  bool has_library = false;
};

// Sums go the way that was fastest for messages of their size when the ranks
// met, which takes a fraction of a second; whatever it is, they are in rank
// order (but see PeerOptions::is_deterministic). What is not between devices is
// `beside`'s. `watch`, whose end `beside` heeds too, ends the group when a
// process does.
//
// When a peer is gone, kernels that wait for it end within milliseconds of the
// watch's word, and at operation_timeout without one: with results that mean
// nothing, and status() and every later call say Unavailable.
//
//   Unavailable         a peer did not join
//   FailedPrecondition  is_required, and the GPUs do not reach each other
//   Unimplemented       this build has no CUDA
absl::StatusOr<std::unique_ptr<Collective>> ConnectPeer(
    const PeerOptions& options, KeyBoard* board,
    std::unique_ptr<PeerWatch> watch, std::unique_ptr<Collective> beside);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_PEER_H_
