// SPDX-License-Identifier: Apache-2.0
//
// This rank's KV cache as rows of addresses, one per sequence, with memory
// behind the part of each that is used (vAttention, arXiv 2405.04437).
#ifndef WORKER_KV_VIRTUAL_KV_CACHE_H_
#define WORKER_KV_VIRTUAL_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "kernels/virtual_memory.h"
#include "worker/kv/kv_store.h"
#include "worker/kv/page_mapper.h"
#include "worker/kv/row_shape.h"
#include "worker/model/model.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Memory that this
// plan asks for and its slices do not need is mapped while they run.
class VirtualKvCache final : public KvStore {
 public:
  // `num_groups` page groups for all `num_rows` rows. ResourceExhausted if the
  // device has not so much memory or addresses, InvalidArgument if it has no
  // such pages, Unimplemented if it has no virtual memory. `backend` and
  // `clock` must live longer.
  static absl::StatusOr<std::unique_ptr<VirtualKvCache>> Create(
      Backend* backend, const RowShape& shape, int32_t num_rows,
      int32_t num_groups, const Clock* clock);

  // Memory may come while a step runs, and go but for what it uses.
  bool MayPrepareAhead(const StepPlan& plan) const override;

  // Internal if the plan maps what does not exist, moves blocks, or runs a
  // slice on addresses that have no memory.
  absl::Status Prepare(const StepPlan& plan, const SlotStates& slots) override;

  KvCache view() const override;

  // Of the mapper; waits until it has nothing to do.
  absl::StatusOr<PageMapperStats> SettledStats();

 private:
  VirtualKvCache(const RowShape& shape, int32_t num_rows, int32_t num_groups,
                 std::unique_ptr<VirtualMemory> memory, const Clock* clock);

  absl::Status CheckMappings(const StepPlan& plan);
  absl::Status AwaitSlice(SlotId slot, int32_t num_tokens,
                          const SlotStates& slots);

  const RowShape shape_;
  const int32_t num_rows_;
  const int32_t num_groups_;
  const std::unique_ptr<VirtualMemory> memory_;
  std::vector<int32_t> mapped_;  // [num_rows] groups, once all is done
  int64_t num_mapped_ = 0;       // their sum
  // [num_rows] groups that the last plan's slices use, which may run still.
  std::vector<int32_t> used_;
  static_assert(kMaxRunning == 1);
  PageMapper mapper_;
};

}  // namespace quire

#endif  // WORKER_KV_VIRTUAL_KV_CACHE_H_
