// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/device_chooser.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/sampler/merge.h"
#include "worker/sampler/plain_row.h"

namespace quire {
bool DeviceChooser::CanChoose(const SlotSampling& sampling) {
  // Longer ones look at tokens that the host may not know yet.
  return std::all_of(sampling.bad_words.begin(), sampling.bad_words.end(),
                     [](const auto& word) { return word.size() == 1; });
}

bool DeviceChooser::IsLeft(const Slot& slot) const {
  return IsPlainRow(slot) ||
         (is_group_ &&
          (IsListedRow(slot) || IsNucleusRow(slot) || IsEditedRow(slot)));
}

bool DeviceChooser::WantsLogprobs(const Slot& slot) const {
  return !is_group_ && slot.sampling.num_logprobs >= 0;
}

bool DeviceChooser::Reads(const Slot& slot) const {
  return !IsLeft(slot) || WantsLogprobs(slot);
}

DeviceChooser::DeviceChooser(Backend* backend, int32_t num_vocab,
                             int32_t max_num_seqs, const SeenCounts* seen,
                             bool is_group)
    : backend_(backend),
      num_vocab_(num_vocab),
      is_group_(is_group),
      seen_(seen),
      input_(backend),
      logprobs_(backend) {
  edits_.reserve(max_num_seqs);
  unfiltered_.reserve(max_num_seqs);
  filtered_.reserve(max_num_seqs);
  wishes_.reserve(max_num_seqs);
}

absl::StatusOr<std::unique_ptr<DeviceChooser>> DeviceChooser::Create(
    Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
    const SeenCounts* seen, bool is_group) {
  CHECK(backend->chooses_shaped());
  return absl::WrapUnique(
      new DeviceChooser(backend, num_vocab, max_num_seqs, seen, is_group));
}

void DeviceChooser::AddRow(int32_t row, SlotId slot_id, const Slot& slot) {
  EditRow edit = EditRowOf(row, slot_id, slot, &lists_);
  ShapedRow shaped = ShapedRowOf(row, slot_id, slot);
  shaped.first_allowed = edit.first_allowed;
  shaped.num_allowed_words = edit.num_allowed_words;
  (NeedsCandidates(slot.sampling) ? filtered_ : unfiltered_).push_back(shaped);
  if (edit.num_biases == 0 && edit.num_masked == 0 && !edit.is_penalised) {
    return;
  }
  if (WantsLogprobs(slot)) {
    SaveLogits(slot, /*num_restricted=*/0, &edit, &num_saved_);
  }
  edits_.push_back(edit);
}

bool DeviceChooser::Collect(absl::Span<const SlotId> slots,
                            const SlotStates& states) {
  edits_.clear();
  unfiltered_.clear();
  filtered_.clear();
  wishes_.clear();
  lists_.Clear();
  num_saved_ = 0;
  for (int32_t row = 0; row < static_cast<int32_t>(slots.size()); ++row) {
    const Slot& slot = states.slot(slots[row]);
    if (!IsLeft(slot)) AddRow(row, slots[row], slot);
    if (WantsLogprobs(slot)) {
      wishes_.push_back({row, slot.sampling.num_logprobs});
    }
  }
  return !unfiltered_.empty() || !filtered_.empty() || !wishes_.empty();
}

absl::StatusOr<ShapedChoiceParams> DeviceChooser::Send(int32_t flight) {
  input_.Clear();
  const int64_t edits = input_.Add(edits_);
  // Whole sixteens of bytes, so that the filtered ones follow at once.
  static_assert(sizeof(ShapedRow) % 16 == 0);
  const int64_t rows = input_.Add(unfiltered_);
  input_.Add(filtered_);
  const int64_t wishes = input_.Add(wishes_);
  const int64_t biases = input_.Add(lists_.biases);
  const int64_t masked = input_.Add(lists_.masked);
  const int64_t allowed = input_.Add(lists_.allowed);
  QUIRE_RETURN_IF_ERROR(input_.Send(flight));
  ShapedChoiceParams p = {};
  p.num_edits = static_cast<int32_t>(edits_.size());
  p.edits = input_.At<EditRow>(edits);
  p.biases = input_.At<TokenBias>(biases);
  p.masked = input_.At<int32_t>(masked);
  p.allowed = input_.At<uint32_t>(allowed);
  p.rows = input_.At<ShapedRow>(rows);
  p.num_unfiltered = static_cast<int32_t>(unfiltered_.size());
  p.num_filtered = static_cast<int32_t>(filtered_.size());
  p.all_have_top_k =
      std::all_of(filtered_.begin(), filtered_.end(),
                  [](const ShapedRow& row) { return row.top_k > 0; });
  p.logprob_rows = input_.At<LogprobRow>(wishes);
  p.num_logprobs = static_cast<int32_t>(wishes_.size());
  return p;
}

absl::Status DeviceChooser::Enqueue(float* logits,
                                    absl::Span<const SlotId> slots,
                                    const SlotStates& states, int32_t flight,
                                    int32_t* tokens, int32_t* by_slot) {
  const bool has_rows = Collect(slots, states);
  QUIRE_RETURN_IF_ERROR(logprobs_.Begin(flight, wishes_));
  if (!has_rows) return absl::OkStatus();
  QUIRE_RETURN_IF_ERROR(
      GrowDevice(backend_, num_saved_ * int64_t{sizeof(float)}, &saved_));
  QUIRE_ASSIGN_OR_RETURN(ShapedChoiceParams p, Send(flight));
  p.logits = logits;
  p.num_vocab = num_vocab_;
  p.seen = seen_->counts();
  p.seen_stride = seen_->stride();
  p.saved = saved_->as<float>();
  p.logprobs = logprobs_.on_device();
  p.tokens = tokens;
  p.by_slot = by_slot;
  QUIRE_RETURN_IF_ERROR(backend_->ChooseShaped(p));
  return logprobs_.Fetch(flight);
}

}  // namespace quire
