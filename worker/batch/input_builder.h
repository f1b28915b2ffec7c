// SPDX-License-Identifier: Apache-2.0
//
// Turns a plan and the slots it names into a model's input. The only place
// where a block number becomes a slot of the cache.
#ifndef WORKER_BATCH_INPUT_BUILDER_H_
#define WORKER_BATCH_INPUT_BUILDER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "kernels/backend.h"
#include "worker/batch/slot_state.h"
#include "worker/model/model.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Allocates at
// creation only.
class InputBuilder {
 public:
  // `backend` must live longer.
  static absl::StatusOr<std::unique_ptr<InputBuilder>> Create(
      Backend* backend, const SlotLimits& limits,
      int32_t max_num_batched_tokens);

  // The input of an applied plan: sequences in plan order, decodes first. The
  // arrays go to the device in one copy; of the block tables, the entries that
  // changed go too, and `slots` forgets that they did. Valid until the next
  // call. Internal if a slice contradicts its slot or the limits.
  // REQUIRES: the device is done with the previous input.
  absl::StatusOr<BatchInput> Build(const StepPlan& plan, SlotStates* slots);

  // Slots of the last input that yield a token, in the order of sample_rows.
  absl::Span<const SlotId> sampled_slots() const { return sampled_slots_; }

 private:
  // Offsets in elements of the arrays, packed by the step's own sizes so that
  // one short copy moves them all.
  struct Sections {
    int64_t token_ids, positions, slot_mapping, query_start, context_lens,
        seq_slots, first_sparse, sample_rows, end;
  };
  Sections SectionsFor(int64_t num_tokens, int64_t num_seqs,
                       int64_t num_samples) const;

  InputBuilder(Backend* backend, const SlotLimits& limits,
               int32_t max_num_batched_tokens);

  absl::Status CountAndCheck(const StepPlan& plan, const SlotStates& slots);
  absl::Status CheckSlice(const Slice& slice, const SlotStates& slots);
  void AddSlice(const Slice& slice, const SlotStates& slots);
  absl::Status UploadTables(SlotStates* slots);

  Backend* const backend_;
  const SlotLimits limits_;
  const int32_t max_num_batched_tokens_;
  std::unique_ptr<DeviceBuffer> host_;
  std::unique_ptr<DeviceBuffer> device_;
  std::unique_ptr<DeviceBuffer> device_tables_;

  std::vector<SlotId> sampled_slots_;
  std::vector<uint64_t> last_build_;  // [max_num_seqs] build that named a slot
  uint64_t build_ = 0;
  // Of the input being built.
  Sections sections_ = {};
  int32_t num_tokens_ = 0;
  int32_t num_seqs_ = 0;
  int32_t num_samples_ = 0;
};

}  // namespace quire

#endif  // WORKER_BATCH_INPUT_BUILDER_H_
