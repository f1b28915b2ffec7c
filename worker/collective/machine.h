// SPDX-License-Identifier: Apache-2.0
//
// Which ranks of a group are on one machine, and so share its cores and memory.
#ifndef WORKER_COLLECTIVE_MACHINE_H_
#define WORKER_COLLECTIVE_MACHINE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/collective/key_board.h"

namespace quire {

// This machine's name, the same in every process on it until it restarts.
std::string ThisMachine();

// A rank's place among those of its group that share its machine.
struct LocalSeat {
  int32_t index = 0;      // [0, num_ranks), in the order of ranks
  int32_t num_ranks = 1;  // this one included
};

// The seat among the group's ranks that gave the same `machine`. Every rank
// calls it, once per board. DeadlineExceeded if one does not.
absl::StatusOr<LocalSeat> FindLocalSeat(KeyBoard* board, int32_t rank,
                                        int32_t world_size,
                                        const std::string& machine,
                                        absl::Duration timeout);

}  // namespace quire

#endif  // WORKER_COLLECTIVE_MACHINE_H_
