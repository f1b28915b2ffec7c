// SPDX-License-Identifier: Apache-2.0
//
// Ranks that have a GPU each, connected by NCCL.
#ifndef WORKER_COLLECTIVE_NCCL_H_
#define WORKER_COLLECTIVE_NCCL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/group_end.h"
#include "worker/collective/key_board.h"

namespace quire {

struct NcclOptions {
  int32_t rank = 0;
  int32_t world_size = 1;
  int32_t device = 0;      // this rank's GPU; no two ranks share one
  void* stream = nullptr;  // the backend's (Backend::native_stream)
  // Sums in rank order whatever the number of ranks: see ConnectNccl.
  bool is_deterministic = false;
  absl::Duration connect_timeout = absl::Seconds(60);
  absl::Duration operation_timeout = absl::Seconds(60);
  // Ends what waits for peers, within milliseconds. May be null; must live
  // longer than the collective.
  const GroupEnd* group_end = nullptr;
};

// Sets what NCCL reads from the environment, where the user has not: never
// NVLink multicast, and bootstrap by the interface that has the address `host`.
// Call it before there are threads, as it calls setenv.
void PrepareNcclEnvironment(const std::string& host);

// Joins the communicator of this group epoch: rank 0 mints its id and puts it
// on the board. Takes at most connect_timeout, or until the group ends.
//
// AllReduceSum takes device memory, is enqueued on the stream and may be
// captured in a CUDA graph. With two ranks there is one order of adding, so
// that sums repeat bit by bit. With more, NCCL's order depends on the message's
// size and on where in it an element is: the ranks agree and a run can be
// repeated, but rows may depend on their batch. is_deterministic gathers and
// adds in rank order instead, at world_size / 2 times the traffic.
// EnqueueAllGather is NCCL's too; AllGather and Barrier are `host`'s, on host
// memory.
//
// When a peer is gone, NCCL's kernels wait for it until the group's end is
// announced, or until NCCL has seen the connection break. Both abort the
// communicator: what is enqueued comes to an end with results that mean
// nothing, and every later call is Unavailable.
//
//   Unavailable         a peer did not join
//   NotFound            no NCCL on this machine
//   FailedPrecondition  NVLink multicast is not off
//   Unimplemented       this build has no CUDA
absl::StatusOr<std::unique_ptr<Collective>> ConnectNccl(
    const NcclOptions& options, KeyBoard* board,
    std::unique_ptr<Collective> host);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_NCCL_H_
