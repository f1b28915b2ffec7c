// SPDX-License-Identifier: Apache-2.0
//
// This rank's bytes of the KV cache: the device pool, and a host pool to swap
// blocks into.
#ifndef WORKER_KV_KV_CACHE_H_
#define WORKER_KV_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "kernels/kv_layout.h"
#include "worker/kv/kv_store.h"
#include "worker/model/model.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller.
class PagedKvCache final : public KvStore {
 public:
  // ResourceExhausted if the memory is not there. `backend` must live longer.
  static absl::StatusOr<std::unique_ptr<PagedKvCache>> Create(
      Backend* backend, const KvLayout& layout, int32_t num_blocks,
      int32_t num_host_blocks);

  // Enqueues the plan's block moves: swap-outs, swap-ins, copies, each kind in
  // one call. REQUIRES: the numbers were checked (SlotStates::Apply).
  absl::Status MoveBlocks(const StepPlan& plan);

  bool MayPrepareAhead(const StepPlan& plan) const override {
    return plan.swap_outs.empty() && plan.swap_ins.empty() &&
           plan.copies.empty();
  }
  absl::Status Prepare(const StepPlan& plan,
                       const SlotStates& /*slots*/) override {
    return MoveBlocks(plan);
  }

  KvCache view() const override;
  int32_t num_host_blocks() const { return num_host_blocks_; }

 private:
  PagedKvCache(Backend* backend, const KvLayout& layout, int32_t num_blocks,
               int32_t num_host_blocks);

  BlockCopyParams ParamsFor(const DeviceBuffer& src, const DeviceBuffer& dst);

  Backend* const backend_;
  const KvLayout layout_;
  const int32_t num_blocks_;
  const int32_t num_host_blocks_;
  std::unique_ptr<DeviceBuffer> device_pool_;
  std::unique_ptr<DeviceBuffer> host_pool_;  // null without host blocks
  std::vector<BlockPair> pairs_;             // grows to the largest step's
};

}  // namespace quire

#endif  // WORKER_KV_KV_CACHE_H_
