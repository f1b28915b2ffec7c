// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/shard_edits.h"

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "common/token_bias.h"
#include "glog/logging.h"
#include "worker/sampler/merge.h"
#include "worker/sampler/plain_row.h"

namespace quire {
namespace {

constexpr ChoiceRow kPadding = {0, 0, 0, /*slot=*/-1, 0};

}  // namespace

ShardEdits::ShardEdits(Backend* backend, Collective* collective,
                       VocabShard vocab, int32_t max_num_seqs,
                       const SeenCounts* seen)
    : backend_(backend),
      collective_(collective),
      vocab_(vocab),
      seen_(seen),
      input_(backend) {
  edits_.reserve(max_num_seqs);
  choices_.reserve(max_num_seqs);
}

absl::StatusOr<std::unique_ptr<ShardEdits>> ShardEdits::Create(
    Backend* backend, Collective* collective, VocabShard vocab,
    int32_t max_num_seqs, const SeenCounts* seen) {
  CHECK(backend->chooses_shaped());
  auto edits = absl::WrapUnique(
      new ShardEdits(backend, collective, vocab, max_num_seqs, seen));
  QUIRE_ASSIGN_OR_RETURN(
      edits->choice_,
      GroupChoice::Create(backend, collective, vocab, max_num_seqs));
  const int64_t words = max_num_seqs * int64_t{sizeof(int32_t)};
  QUIRE_ASSIGN_OR_RETURN(edits->has_others_, backend->Allocate(words));
  QUIRE_ASSIGN_OR_RETURN(edits->all_has_others_,
                         backend->Allocate(collective->world_size() * words));
  constexpr int64_t kRowBytes = sizeof(EditRow) + sizeof(ChoiceRow);
  QUIRE_RETURN_IF_ERROR(edits->input_.Reserve(max_num_seqs * kRowBytes + 32));
  return edits;
}

void ShardEdits::Collect(absl::Span<const SlotId> slots,
                         const SlotStates& states) {
  edits_.clear();
  lists_.Clear();
  choices_.clear();
  num_saved_ = 0;
  for (int32_t row = 0; row < static_cast<int32_t>(slots.size()); ++row) {
    const Slot& slot = states.slot(slots[row]);
    if (!IsEditedRow(slot)) continue;
    EditRow& edit =
        edits_.emplace_back(EditRowOf(row, slots[row], slot, &lists_));
    if (slot.sampling.num_logprobs >= 0) {
      SaveLogits(slot, edit.first_allowed < 0 ? 0 : vocab_.num_ids, &edit,
                 &num_saved_);
    }
    if (NeedsCandidates(slot.sampling)) continue;
    if (choices_.empty()) first_choice_ = row;
    choices_.resize(row - first_choice_, kPadding);
    choices_.push_back({slot.sampling.seed, slot.num_tokens(),
                        slot.sampling.temperature, slots[row].value(), 0});
  }
}

absl::Status ShardEdits::Send(int32_t flight, float* logits, int32_t* tokens,
                              const ChoiceRow** choices) {
  input_.Clear();
  const int64_t edits = input_.Add(edits_);
  const int64_t choice_rows = input_.Add(choices_);
  const int64_t biases = input_.Add(lists_.biases);
  const int64_t masked = input_.Add(lists_.masked);
  const int64_t allowed = input_.Add(lists_.allowed);
  QUIRE_RETURN_IF_ERROR(input_.Send(flight));
  params_ = {};
  if (num_saved_ > 0) {
    QUIRE_RETURN_IF_ERROR(
        GrowDevice(backend_, num_saved_ * int64_t{sizeof(float)}, &saved_));
    params_.saved = saved_->as<float>();
  }
  params_.logits = logits;
  params_.num_vocab = vocab_.num_ids;
  params_.first_id = vocab_.first_id;
  params_.has_others = has_others_->as<int32_t>();
  params_.num_edits = static_cast<int32_t>(edits_.size());
  params_.edits = input_.At<EditRow>(edits);
  params_.biases = input_.At<TokenBias>(biases);
  params_.masked = input_.At<int32_t>(masked);
  params_.allowed = input_.At<uint32_t>(allowed);
  params_.seen = seen_->counts();
  params_.seen_stride = seen_->stride();
  params_.tokens = tokens;
  *choices = input_.At<ChoiceRow>(choice_rows);
  return absl::OkStatus();
}

absl::Status ShardEdits::Edit() {
  QUIRE_RETURN_IF_ERROR(backend_->EditLogits(params_));
  if (lists_.masked.empty()) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(collective_->EnqueueAllGather(
      has_others_->data(), all_has_others_->data(),
      params_.num_edits * int64_t{sizeof(int32_t)}));
  MaskLogitsParams mask = {};
  static_cast<EditLogitsParams&>(mask) = params_;
  mask.heard = all_has_others_->as<int32_t>();
  mask.num_shards = collective_->world_size();
  return backend_->MaskLogits(mask);
}

absl::Status ShardEdits::Enqueue(float* logits, absl::Span<const SlotId> slots,
                                 const SlotStates& states, int32_t flight,
                                 int32_t* tokens, int32_t* by_slot) {
  Collect(slots, states);
  if (edits_.empty()) return absl::OkStatus();
  const ChoiceRow* choices = nullptr;
  QUIRE_RETURN_IF_ERROR(Send(flight, logits, tokens, &choices));
  QUIRE_RETURN_IF_ERROR(Edit());
  if (choices_.empty()) return absl::OkStatus();
  return choice_->Enqueue(
      {.logits = logits + int64_t{first_choice_} * vocab_.num_ids,
       .rows = choices,
       .tokens = tokens + first_choice_,
       .by_slot = by_slot,
       .num_vocab = vocab_.num_ids,
       .num_rows = static_cast<int32_t>(choices_.size())});
}

absl::Status ShardEdits::Finish() {
  if (edits_.empty()) return absl::OkStatus();
  return backend_->FinishEdits(params_);
}

}  // namespace quire
