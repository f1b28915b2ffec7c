// SPDX-License-Identifier: Apache-2.0
//
// How much memory the KV cache may take, found by running the largest step.
#ifndef WORKER_KV_MEMORY_PROFILE_H_
#define WORKER_KV_MEMORY_PROFILE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"
#include "worker/model/model.h"

namespace quire {

// The step with the most tokens and the most sequences that the limits allow:
// every sequence a whole prompt, every one sampling. Blocks are those of a
// cache in which sequence i's come right after sequence i - 1's.
StepPlan LargestStep(const StepLimits& limits, int32_t block_size);

// Runs LargestStep on blocks of its own and returns how long it took. Every
// rank calls it.
absl::StatusOr<absl::Duration> RunLargestStep(Backend* backend, Model* model,
                                              const StepLimits& limits,
                                              int32_t block_size,
                                              int32_t vocab_size,
                                              const Clock& clock);

// Bytes a second between device blocks and host blocks, the slower direction:
// what PagedKvCache::MoveBlocks reaches with some tens of MiB at once. 0 if the
// clock is too coarse, or there is no memory to try it with.
absl::StatusOr<int64_t> MeasureSwap(Backend* backend, const KvLayout& layout,
                                    const Clock& clock);

// Bytes that this rank's cache may take: what `memory_utilization` of the
// device leaves beside everything that is in use now, shared evenly by the
// `num_sharers` ranks on it. ResourceExhausted if that is nothing.
// REQUIRES: all of them have loaded and none has allocated its cache.
absl::StatusOr<int64_t> KvBytesFor(const MemoryInfo& memory,
                                   double memory_utilization,
                                   int32_t num_sharers);

}  // namespace quire

#endif  // WORKER_KV_MEMORY_PROFILE_H_
