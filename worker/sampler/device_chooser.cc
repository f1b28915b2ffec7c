// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/device_chooser.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/batch/token_counts.h"
#include "worker/sampler/bad_words.h"
#include "worker/sampler/merge.h"
#include "worker/sampler/plain_row.h"
#include "worker/sampler/shaped_row.h"

namespace quire {
namespace {

int64_t Align(int64_t bytes) { return (bytes + 15) / 16 * 16; }

template <typename T>
int64_t BytesOf(const std::vector<T>& values) {
  return Align(values.size() * sizeof(T));
}

template <typename T>
void Copy(const std::vector<T>& values, char* to) {
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(to));
}

}  // namespace

bool DeviceChooser::CanChoose(const SlotSampling& sampling) {
  // Longer ones look at tokens that the host may not know yet.
  return std::all_of(sampling.bad_words.begin(), sampling.bad_words.end(),
                     [](const auto& word) { return word.size() == 1; });
}

bool DeviceChooser::IsLeft(const Slot& slot) const {
  return IsPlainRow(slot) ||
         (is_group_ && (IsListedRow(slot) || IsNucleusRow(slot)));
}

bool DeviceChooser::Reads(const Slot& slot) const {
  return slot.sampling.num_logprobs >= 0 || !IsLeft(slot);
}

DeviceChooser::DeviceChooser(Backend* backend, int32_t num_vocab,
                             int32_t max_num_seqs, int32_t max_model_len,
                             bool is_group)
    : backend_(backend),
      num_vocab_(num_vocab),
      is_group_(is_group),
      max_listed_(std::min(num_vocab, max_model_len + 1)),
      known_counts_(max_num_seqs, 0) {
  edits_.reserve(max_num_seqs);
  unfiltered_.reserve(max_num_seqs);
  filtered_.reserve(max_num_seqs);
  wishes_.reserve(max_num_seqs);
}

absl::StatusOr<std::unique_ptr<DeviceChooser>> DeviceChooser::Create(
    Backend* backend, int32_t num_vocab, int32_t max_num_seqs,
    int32_t max_model_len, bool is_group) {
  CHECK(backend->chooses_shaped());
  auto chooser = absl::WrapUnique(new DeviceChooser(
      backend, num_vocab, max_num_seqs, max_model_len, is_group));
  QUIRE_ASSIGN_OR_RETURN(
      chooser->seen_,
      backend->Allocate(int64_t{max_num_seqs} * (2 + chooser->max_listed_) *
                        sizeof(SeenToken)));
  return chooser;
}

void DeviceChooser::AddEdit(int32_t row, SlotId slot_id, const Slot& slot,
                            const ShapedRow& shaped) {
  const SlotSampling& sampling = slot.sampling;
  EditRow edit = {};
  edit.row = row;
  edit.slot = slot_id.value();
  edit.first_bias = static_cast<int32_t>(biases_.size());
  edit.num_biases = static_cast<int32_t>(sampling.logit_bias.size());
  biases_.insert(biases_.end(), sampling.logit_bias.begin(),
                 sampling.logit_bias.end());
  edit.first_masked = static_cast<int32_t>(masked_.size());
  const int32_t num_outputs = slot.num_tokens() - slot.num_prompt;
  if (num_outputs < sampling.min_tokens) {
    masked_.insert(masked_.end(), sampling.stop_token_ids.begin(),
                   sampling.stop_token_ids.end());
  }
  AppendBadTokens(sampling.bad_words, /*output=*/{}, &masked_);
  edit.num_masked = static_cast<int32_t>(masked_.size()) - edit.first_masked;
  edit.first_allowed = shaped.first_allowed;
  edit.num_allowed_words = shaped.num_allowed_words;
  edit.is_penalised = TokenCounts::IsNeeded(sampling);
  edit.presence_penalty = sampling.presence_penalty;
  edit.frequency_penalty = sampling.frequency_penalty;
  edit.repetition_penalty = sampling.repetition_penalty;
  edit.first_saved = -1;
  if (edit.num_biases == 0 && edit.num_masked == 0 && !edit.is_penalised) {
    return;
  }
  if (sampling.num_logprobs >= 0) {
    edit.first_saved = static_cast<int32_t>(num_saved_);
    num_saved_ += edit.num_biases + edit.num_masked;
    if (edit.is_penalised)
      num_saved_ += std::min(slot.num_tokens(), num_vocab_);
  }
  if (edit.is_penalised && known_counts_[edit.slot] != slot.counts_version) {
    count_bytes_ += Align((1 + slot.counts.seen().size()) * sizeof(SeenToken));
  }
  edits_.push_back(edit);
}

void DeviceChooser::AddRow(int32_t row, SlotId slot_id, const Slot& slot) {
  ShapedRow shaped = ShapedRowOf(row, slot_id, slot);
  if (!slot.allowed.empty()) {
    shaped.first_allowed = static_cast<int32_t>(allowed_.size());
    shaped.num_allowed_words = static_cast<int32_t>(slot.allowed.size());
    allowed_.insert(allowed_.end(), slot.allowed.begin(), slot.allowed.end());
  }
  (NeedsCandidates(slot.sampling) ? filtered_ : unfiltered_).push_back(shaped);
  AddEdit(row, slot_id, slot, shaped);
}

bool DeviceChooser::Collect(absl::Span<const SlotId> slots,
                            const SlotStates& states) {
  edits_.clear();
  unfiltered_.clear();
  filtered_.clear();
  wishes_.clear();
  biases_.clear();
  masked_.clear();
  allowed_.clear();
  num_saved_ = 0;
  count_bytes_ = 0;
  for (int32_t row = 0; row < static_cast<int32_t>(slots.size()); ++row) {
    const Slot& slot = states.slot(slots[row]);
    if (!IsLeft(slot)) AddRow(row, slots[row], slot);
    if (slot.sampling.num_logprobs >= 0) {
      wishes_.push_back({row, slot.sampling.num_logprobs});
    }
  }
  return !unfiltered_.empty() || !filtered_.empty() || !wishes_.empty();
}

DeviceChooser::Sections DeviceChooser::SectionsOf() const {
  Sections s = {};
  s.rows = s.edits + BytesOf(edits_);
  s.wishes = s.rows +
             Align((unfiltered_.size() + filtered_.size()) * sizeof(ShapedRow));
  s.biases = s.wishes + BytesOf(wishes_);
  s.masked = s.biases + BytesOf(biases_);
  s.allowed = s.masked + BytesOf(masked_);
  s.end = s.allowed + BytesOf(allowed_);
  return s;
}

absl::Status DeviceChooser::Reserve(const Sections& sections, Flight* flight) {
  const auto grow = [this](int64_t bytes, bool on_device,
                           std::unique_ptr<DeviceBuffer>* buffer) {
    if (*buffer != nullptr && (*buffer)->bytes() >= bytes) {
      return absl::OkStatus();
    }
    // What was enqueued may use the old one still.
    QUIRE_RETURN_IF_ERROR(backend_->Synchronize());
    buffer->reset();
    const int64_t roomy = bytes + bytes / 2;
    QUIRE_ASSIGN_OR_RETURN(*buffer, on_device ? backend_->Allocate(roomy)
                                              : backend_->AllocateHost(roomy));
    return absl::OkStatus();
  };
  const int64_t logprobs = wishes_.size() * sizeof(TokenLogprobs);
  QUIRE_RETURN_IF_ERROR(
      grow(sections.end + count_bytes_, false, &flight->input));
  QUIRE_RETURN_IF_ERROR(grow(logprobs, false, &flight->logprobs));
  QUIRE_RETURN_IF_ERROR(grow(sections.end, true, &input_));
  QUIRE_RETURN_IF_ERROR(grow(logprobs, true, &logprobs_));
  return grow(num_saved_ * sizeof(float), true, &saved_);
}

void DeviceChooser::Fill(const Sections& sections, char* base) const {
  Copy(edits_, base + sections.edits);
  Copy(unfiltered_, base + sections.rows);
  Copy(filtered_,
       base + sections.rows + unfiltered_.size() * sizeof(ShapedRow));
  Copy(wishes_, base + sections.wishes);
  Copy(biases_, base + sections.biases);
  Copy(masked_, base + sections.masked);
  Copy(allowed_, base + sections.allowed);
}

absl::Status DeviceChooser::SendCounts(absl::Span<const SlotId> slots,
                                       const SlotStates& states, int64_t begin,
                                       Flight* flight) {
  for (const EditRow& edit : edits_) {
    if (!edit.is_penalised) continue;
    const Slot& slot = states.slot(slots[edit.row]);
    uint64_t& known = known_counts_[edit.slot];
    if (known == slot.counts_version) continue;
    known = slot.counts_version;
    const std::vector<SeenToken>& seen = slot.counts.seen();
    CHECK_LE(static_cast<int64_t>(seen.size()), max_listed_);
    auto* row = reinterpret_cast<SeenToken*>(flight->input->as<char>() + begin);
    reinterpret_cast<SeenHeader&>(*row) = {static_cast<int32_t>(seen.size()),
                                           0};
    std::copy(seen.begin(), seen.end(), row + 1);
    const int64_t bytes = (1 + seen.size()) * sizeof(SeenToken);
    QUIRE_RETURN_IF_ERROR(backend_->CopyToDevice(
        row, seen_->as<SeenToken>() + int64_t{edit.slot} * (2 + max_listed_),
        bytes));
    begin += Align(bytes);
  }
  return absl::OkStatus();
}

absl::Status DeviceChooser::Enqueue(float* logits,
                                    absl::Span<const SlotId> slots,
                                    const SlotStates& states, int32_t flight,
                                    int32_t* tokens, int32_t* by_slot) {
  Flight& own = flights_[flight];
  own.wishes.clear();
  if (!Collect(slots, states)) return absl::OkStatus();
  for (const LogprobRow& wish : wishes_) {
    own.wishes.push_back({wish.row, wish.num_top});
  }
  const Sections sections = SectionsOf();
  QUIRE_RETURN_IF_ERROR(Reserve(sections, &own));
  Fill(sections, own.input->as<char>());
  QUIRE_RETURN_IF_ERROR(
      backend_->CopyToDevice(own.input->data(), input_->data(), sections.end));
  QUIRE_RETURN_IF_ERROR(SendCounts(slots, states, sections.end, &own));

  const char* const base = input_->as<char>();
  ShapedChoiceParams p = {};
  p.logits = logits;
  p.num_vocab = num_vocab_;
  p.num_edits = static_cast<int32_t>(edits_.size());
  p.edits = reinterpret_cast<const EditRow*>(base + sections.edits);
  p.biases = reinterpret_cast<const TokenBias*>(base + sections.biases);
  p.masked = reinterpret_cast<const int32_t*>(base + sections.masked);
  p.seen = seen_->as<SeenToken>();
  p.seen_stride = 2 + max_listed_;
  p.saved = saved_->as<float>();
  p.rows = reinterpret_cast<const ShapedRow*>(base + sections.rows);
  p.num_unfiltered = static_cast<int32_t>(unfiltered_.size());
  p.num_filtered = static_cast<int32_t>(filtered_.size());
  p.all_have_top_k =
      std::all_of(filtered_.begin(), filtered_.end(),
                  [](const ShapedRow& row) { return row.top_k > 0; });
  p.allowed = reinterpret_cast<const uint32_t*>(base + sections.allowed);
  p.logprob_rows = reinterpret_cast<const LogprobRow*>(base + sections.wishes);
  p.logprobs = logprobs_->as<TokenLogprobs>();
  p.num_logprobs = static_cast<int32_t>(wishes_.size());
  p.tokens = tokens;
  p.by_slot = by_slot;
  QUIRE_RETURN_IF_ERROR(backend_->ChooseShaped(p));
  if (wishes_.empty()) return absl::OkStatus();
  return backend_->CopyToHost(logprobs_->data(), own.logprobs->data(),
                              wishes_.size() * sizeof(TokenLogprobs));
}

void DeviceChooser::Forget(absl::Span<const SlotId> slots) {
  for (SlotId slot : slots) known_counts_[slot.value()] = 0;
}

void DeviceChooser::ReadLogprobs(int32_t flight,
                                 std::vector<SampledLogprobs>* out) const {
  const Flight& own = flights_[flight];
  const auto* all =
      own.wishes.empty() ? nullptr : own.logprobs->as<TokenLogprobs>();
  for (size_t i = 0; i < own.wishes.size(); ++i) {
    const TokenLogprobs& one = all[i];
    SampledLogprobs& sampled = out->emplace_back();
    sampled.sample_idx = own.wishes[i].sample_idx;
    sampled.logprob = one.logprob;
    sampled.rank = one.rank;
    for (int32_t j = 0; j < own.wishes[i].num_top; ++j) {
      if (one.top_ids[j] < 0) break;
      sampled.top.push_back({one.top_ids[j], one.top_logprobs[j]});
    }
  }
}

}  // namespace quire
