// SPDX-License-Identifier: Apache-2.0
//
// Ranks as processes of one machine that meet in shared memory: a few
// microseconds an operation where a socket takes hundreds.
#ifndef WORKER_COLLECTIVE_SHM_H_
#define WORKER_COLLECTIVE_SHM_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/collective.h"
#include "worker/collective/key_board.h"

namespace quire {

struct ShmOptions {
  int32_t rank = 0;
  int32_t world_size = 1;
  absl::Duration connect_timeout = absl::Seconds(60);
  // For a peer that lives but does not come. One that died is noticed within
  // a fifth of a second, as the kernel drops the lock that it held.
  absl::Duration operation_timeout = absl::Seconds(60);
};

// Blocks until every rank has called it with the same board, which is not
// needed afterwards. Unavailable: a peer did not join; ResourceExhausted: there
// is not enough shared memory. Works on host memory; operations allocate
// nothing. A waiting rank spins for some 50 us and then sleeps in the kernel.
absl::StatusOr<std::unique_ptr<Collective>> ConnectShm(
    const ShmOptions& options, KeyBoard* board);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_SHM_H_
