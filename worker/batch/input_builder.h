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

// Prompt tokens whose log probabilities a step yields: row i of them is the
// logits for token first_token + i of the sequence.
struct PromptRun {
  SlotId slot;
  int32_t first_token = 0;
  int32_t num_tokens = 0;
};

// What a step is padded to: those of one size differ in arrays alone, which lie
// where they always do, so that one can be run again for another.
struct StepSize {
  int32_t num_tokens = 0;
  int32_t num_seqs = 0;
  // Of each sequence that has any; see AttentionParams.
  int32_t min_new_tokens = 0;
};

// Thread-compatible; the executor thread is the sole caller. Allocates at
// creation only.
class InputBuilder {
 public:
  // `backend` must live longer. InvalidArgument if an input and the tables are
  // more than 2^31 words.
  static absl::StatusOr<std::unique_ptr<InputBuilder>> Create(
      Backend* backend, const SlotLimits& limits,
      int32_t max_num_batched_tokens);

  // Inputs that may be on their way to the device at once.
  static constexpr int32_t kMaxInFlight = 2;

  // The input of an applied plan: sequences in plan order, decodes first, then
  // padding up to `size`, if that has tokens. The device fetches everything in
  // one operation; of the block tables, the entries that changed, and `slots`
  // forgets that they did. Enqueued work may read the last input still.
  // Internal if a slice contradicts its slot or the limits.
  // REQUIRES: the device is done with the input kMaxInFlight calls ago; a size
  // holds the plan's, and each of its sequences yields a token and scores no
  // prompt.
  absl::StatusOr<BatchInput> Build(const StepPlan& plan, SlotStates* slots,
                                   const StepSize& size = {});

  // An input of nothing but padding, for warming up: plans that are padded to
  // that size differ from it in what arrays hold.
  // REQUIRES: num_seqs <= num_tokens, both within the limits.
  absl::StatusOr<BatchInput> BuildPadding(const StepSize& size);

  // [max_num_seqs] device memory: what each slot sampled last. The builder only
  // says where it is.
  int32_t* sampled_by_slot() { return device_sampled_->as<int32_t>(); }

  // Slots of the last input that yield a token, in the order of sample_rows.
  absl::Span<const SlotId> sampled_slots() const { return sampled_slots_; }
  // Of the last input, in the order of prompt_rows.
  absl::Span<const PromptRun> prompt_runs() const { return prompt_runs_; }

 private:
  // Offsets in elements of the arrays, packed by the step's own sizes so that
  // little is moved.
  struct Sections {
    int64_t token_ids, positions, slot_mapping, query_start, context_lens,
        seq_slots, first_sparse, sample_rows, choices, prompt_rows, end;
  };
  Sections SectionsFor(int64_t num_tokens, int64_t num_seqs,
                       int64_t num_samples, int64_t num_prompt_rows) const;

  InputBuilder(Backend* backend, const SlotLimits& limits,
               int32_t max_num_batched_tokens);

  void Begin();
  absl::Status CountAndCheck(const StepPlan& plan, const SlotStates& slots);
  absl::Status CheckSlice(const Slice& slice, const SlotStates& slots);
  void AddSlice(const Slice& slice, const SlotStates& slots);
  void AddPadding(const StepSize& size);
  // Sends what was added, and the changed entries of the tables, if given.
  absl::StatusOr<BatchInput> Send(SlotStates* slots);
  // Has words of the host's buffer copied to words of the device's.
  void AddRun(int64_t from, int64_t to, int64_t count);
  WordRun* host_runs() const {
    return reinterpret_cast<WordRun*>(host_ + max_array_words_ +
                                      max_table_words_);
  }

  Backend* const backend_;
  const SlotLimits limits_;
  const int32_t max_num_batched_tokens_;
  const int32_t max_blocks_per_seq_;
  // Of an input: its arrays, changed entries of tables, runs of both.
  std::unique_ptr<DeviceBuffer> hosts_[kMaxInFlight];
  std::unique_ptr<DeviceBuffer> device_;  // arrays, and behind them the tables
  std::unique_ptr<DeviceBuffer> device_sampled_;
  int64_t max_array_words_ = 0;
  int64_t max_table_words_ = 0;

  std::vector<SlotId> sampled_slots_;
  std::vector<PromptRun> prompt_runs_;
  std::vector<uint64_t> last_build_;  // [max_num_seqs] build that named a slot
  uint64_t build_ = 0;
  // Of the input being built.
  int32_t* host_ = nullptr;
  Sections sections_ = {};
  int32_t num_tokens_ = 0;
  int32_t num_seqs_ = 0;
  int32_t num_samples_ = 0;
  int32_t num_prompt_rows_ = 0;
  int32_t num_runs_ = 0;
};

}  // namespace quire

#endif  // WORKER_BATCH_INPUT_BUILDER_H_
