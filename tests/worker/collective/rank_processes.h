// SPDX-License-Identifier: Apache-2.0
//
// Ranks that are processes of one test or bench, as a cluster's are. Ranks with
// a GPU each cannot be threads of one process as soon as they allocate while
// they work: CUDA may then wait for all GPUs of the process, also for the
// kernel of a peer that itself waits for this rank.
#ifndef TESTS_WORKER_COLLECTIVE_RANK_PROCESSES_H_
#define TESTS_WORKER_COLLECTIVE_RANK_PROCESSES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/collective/key_board.h"

namespace quire {

// What a rank does, in its process; what it says goes back.
using RankProcess =
    std::function<absl::StatusOr<std::string>(int32_t rank, KeyBoard* board)>;

// Runs `body` on ranks [0, world), and yields what each said, by rank. Internal
// if one fails or dies: then the others are killed, whatever they wait for.
// REQUIRES: this process has no other thread, and has called nothing of CUDA,
// which does not survive forking.
absl::StatusOr<std::vector<std::string>> RunRankProcesses(
    int32_t world, const RankProcess& body);

}  // namespace quire

#endif  // TESTS_WORKER_COLLECTIVE_RANK_PROCESSES_H_
