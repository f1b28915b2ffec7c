// SPDX-License-Identifier: Apache-2.0
//
// Rows whose logits penalties, logit_bias and masks change, in a group whose
// devices choose tokens without their hosts: each rank edits its shard of the
// vocabulary, so that the rows are chosen from shards as others are, and every
// rank counts what was chosen. As masks are passed over where nothing else
// could be chosen, ranks tell each other whether they have something else, a
// word a row.
#ifndef WORKER_SAMPLER_SHARD_EDITS_H_
#define WORKER_SAMPLER_SHARD_EDITS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "kernels/backend.h"
#include "kernels/sample.h"
#include "kernels/shaped_choice.h"
#include "worker/batch/slot_state.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"
#include "worker/sampler/group_choice.h"
#include "worker/sampler/seen_counts.h"
#include "worker/sampler/shaped_row.h"
#include "worker/sampler/step_input.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller. Allocates nothing
// after creation but room for more of what edits name than any step had, and
// for more logits that are edited and whose log probabilities are wanted.
class ShardEdits {
 public:
  // `backend`, `collective` and `seen` must live longer.
  // REQUIRES: backend->chooses_shaped().
  static absl::StatusOr<std::unique_ptr<ShardEdits>> Create(
      Backend* backend, Collective* collective, VocabShard vocab,
      int32_t max_num_seqs, const SeenCounts* seen);

  // Steps whose edits may be on their way at once.
  static constexpr int32_t kMaxFlights = StepInput::kMaxFlights;

  // Enqueues, of all rows for which IsEditedRow() holds, the edits of their
  // logits, in place, and the choice of those without filters; nothing if there
  // are none. Row i of `logits` is this rank's shard of slots[i]'s, [slots,
  // vocab.num_ids], and tokens[i] its token. Every rank calls it, with the same
  // slots, and gets the same tokens.
  // REQUIRES: the flight's last step has run, the slots' counts are sent.
  absl::Status Enqueue(float* logits, absl::Span<const SlotId> slots,
                       const SlotStates& states, int32_t flight,
                       int32_t* tokens, int32_t* by_slot);

  // Enqueues that the tokens of those rows are counted, and that the logits of
  // those with log probabilities are as they were.
  // REQUIRES: what chooses from those with filters is enqueued.
  absl::Status Finish();

 private:
  ShardEdits(Backend* backend, Collective* collective, VocabShard vocab,
             int32_t max_num_seqs, const SeenCounts* seen);

  // Collects the rows of the step.
  void Collect(absl::Span<const SlotId> slots, const SlotStates& states);
  // Sends them: params_ and `choices` are where the device has them.
  absl::Status Send(int32_t flight, float* logits, int32_t* tokens,
                    const ChoiceRow** choices);
  // Enqueues their edits.
  absl::Status Edit();

  Backend* const backend_;
  Collective* const collective_;
  const VocabShard vocab_;
  const SeenCounts* const seen_;
  std::unique_ptr<GroupChoice> choice_;
  StepInput input_;
  std::unique_ptr<DeviceBuffer> saved_;
  std::unique_ptr<DeviceBuffer> has_others_;      // [max_num_seqs] words
  std::unique_ptr<DeviceBuffer> all_has_others_;  // [world_size, edits]

  // Of the step at work.
  std::vector<EditRow> edits_;
  EditLists lists_;
  int64_t num_saved_ = 0;
  // Of rows from first_choice_ on; padding for those that are not its to
  // choose.
  std::vector<ChoiceRow> choices_;
  int32_t first_choice_ = 0;
  EditLogitsParams params_ = {};
};

}  // namespace quire

#endif  // WORKER_SAMPLER_SHARD_EDITS_H_
