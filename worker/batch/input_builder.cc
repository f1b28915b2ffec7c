// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/input_builder.h"

#include <algorithm>
#include <limits>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/sampler/plain_row.h"

namespace quire {
namespace {

// Arrays start on cache lines.
constexpr int64_t kAlignment = 64 / sizeof(int32_t);
constexpr int64_t kChoiceWords = sizeof(ChoiceRow) / sizeof(int32_t);
// Of a run: the device fetches runs side by side, each from far away.
constexpr int64_t kMaxRunWords = 1024;

// Of a slice, the tokens after which another prompt token comes whose log
// probability is wanted: so many of the first.
int32_t NumPromptRows(const Slice& slice, const Slot& slot) {
  if (slot.sampling.num_prompt_logprobs < 0) return 0;
  return std::clamp(slot.num_prompt - 1 - slot.num_computed, 0,
                    slice.num_tokens);
}

// Of any one sequence of the step.
int32_t FewestTokens(const StepPlan& plan) {
  int32_t fewest = plan.decodes.empty() ? 0 : 1;
  for (const Slice& slice : plan.chunks) {
    if (fewest == 0 || slice.num_tokens < fewest) fewest = slice.num_tokens;
  }
  return fewest;
}

int64_t RoundUp(int64_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename... Args>
absl::Status Contradiction(SlotId slot, const Args&... what) {
  return absl::InternalError(
      absl::StrCat("slot ", slot.value(), ": ", what...));
}

}  // namespace

InputBuilder::Sections InputBuilder::SectionsFor(
    int64_t num_tokens, int64_t num_seqs, int64_t num_samples,
    int64_t num_prompt_rows) const {
  Sections s = {};
  s.positions = s.token_ids + RoundUp(num_tokens);
  s.slot_mapping = s.positions + RoundUp(num_tokens);
  s.query_start = s.slot_mapping + RoundUp(num_tokens);
  s.context_lens = s.query_start + RoundUp(num_seqs + 1);
  s.seq_slots = s.context_lens + RoundUp(num_seqs);
  s.first_sparse = s.seq_slots + RoundUp(num_seqs);
  s.sample_rows =
      s.first_sparse + (limits_.sparse_pages > 0 ? RoundUp(num_seqs) : 0);
  s.choices = s.sample_rows + RoundUp(num_samples);
  s.prompt_rows = s.choices + RoundUp(num_samples * kChoiceWords);
  s.end = s.prompt_rows + RoundUp(num_prompt_rows);
  return s;
}

InputBuilder::InputBuilder(Backend* backend, const SlotLimits& limits,
                           int32_t max_num_batched_tokens)
    : backend_(backend),
      limits_(limits),
      max_num_batched_tokens_(max_num_batched_tokens),
      max_blocks_per_seq_((limits.max_model_len + limits.block_size - 1) /
                          limits.block_size),
      last_build_(limits.max_num_seqs, 0) {
  sampled_slots_.reserve(limits.max_num_seqs);
  prompt_runs_.reserve(limits.max_num_seqs);
}

absl::StatusOr<std::unique_ptr<InputBuilder>> InputBuilder::Create(
    Backend* backend, const SlotLimits& limits,
    int32_t max_num_batched_tokens) {
  auto builder = absl::WrapUnique(
      new InputBuilder(backend, limits, max_num_batched_tokens));
  const int64_t seqs = limits.max_num_seqs;
  const int64_t most_tokens = std::max<int64_t>(max_num_batched_tokens, seqs);
  const int64_t array_words =
      builder->SectionsFor(most_tokens, seqs, seqs, most_tokens).end;
  const int64_t table_words = seqs * builder->max_blocks_per_seq_;
  const int64_t words = array_words + table_words;
  // Runs, and their offsets into the tables, are of 32 bits.
  if (words > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "block tables of ", seqs, " sequences of ",
        builder->max_blocks_per_seq_,
        " KV blocks are too many; lower --max_num_seqs or --max_model_len, or "
        "raise --block_size"));
  }
  builder->max_array_words_ = array_words;
  builder->max_table_words_ = table_words;
  const int64_t max_runs = words / kMaxRunWords + 1 + seqs;
  for (auto& host : builder->hosts_) {
    QUIRE_ASSIGN_OR_RETURN(
        host, backend->AllocateHost(words * sizeof(int32_t) +
                                    max_runs * sizeof(WordRun)));
  }
  QUIRE_ASSIGN_OR_RETURN(builder->device_,
                         backend->Allocate(words * sizeof(int32_t)));
  QUIRE_ASSIGN_OR_RETURN(builder->device_sampled_,
                         backend->Allocate(seqs * sizeof(int32_t)));
  return builder;
}

absl::Status InputBuilder::CheckSlice(const Slice& slice,
                                      const SlotStates& slots) {
  QUIRE_RETURN_IF_ERROR(slots.CheckAlive(slice.slot));
  const Slot& slot = slots.slot(slice.slot);
  uint64_t& last_build = last_build_[slice.slot.value()];
  if (last_build == build_) {
    return Contradiction(slice.slot, "named twice in a step");
  }
  last_build = build_;
  if (slice.num_tokens < 1 || slice.num_tokens > slot.num_uncomputed()) {
    return Contradiction(slice.slot, "a slice of ", slice.num_tokens,
                         " tokens, ", slot.num_uncomputed(), " are uncomputed");
  }
  if (slice.sample && slice.num_tokens != slot.num_uncomputed()) {
    return Contradiction(slice.slot, "samples after ", slice.num_tokens, " of ",
                         slot.num_uncomputed(), " uncomputed tokens");
  }
  if (slice.sample && slot.sampling.needs_mask &&
      slot.masked_position != slot.num_tokens()) {
    return Contradiction(slice.slot, "samples token ", slot.num_tokens(),
                         " without a mask");
  }
  const int64_t end = int64_t{slot.num_computed} + slice.num_tokens;
  if (end > limits_.max_model_len) {
    return Contradiction(slice.slot, "computes token ", end, ", the window is ",
                         limits_.max_model_len);
  }
  if (end > int64_t{slot.num_blocks} * limits_.block_size) {
    return Contradiction(slice.slot, "computes token ", end, ", its ",
                         slot.num_blocks, " blocks hold ",
                         int64_t{slot.num_blocks} * limits_.block_size);
  }
  return absl::OkStatus();
}

absl::Status InputBuilder::CountAndCheck(const StepPlan& plan,
                                         const SlotStates& slots) {
  int64_t num_tokens = plan.decodes.size();
  num_samples_ = static_cast<int32_t>(plan.decodes.size());
  for (SlotId slot : plan.decodes) {
    QUIRE_RETURN_IF_ERROR(CheckSlice({slot, 1, /*sample=*/true}, slots));
  }
  for (const Slice& slice : plan.chunks) {
    QUIRE_RETURN_IF_ERROR(CheckSlice(slice, slots));
    num_tokens += slice.num_tokens;
    num_samples_ += slice.sample ? 1 : 0;
    num_prompt_rows_ += NumPromptRows(slice, slots.slot(slice.slot));
  }
  if (num_tokens > max_num_batched_tokens_) {
    return absl::InternalError(absl::StrCat("a step of ", num_tokens,
                                            " tokens, the most is ",
                                            max_num_batched_tokens_));
  }
  const int64_t num_seqs = plan.decodes.size() + plan.chunks.size();
  sections_ = SectionsFor(num_tokens, num_seqs, num_samples_, num_prompt_rows_);
  num_prompt_rows_ = 0;  // counted again as they are written
  return absl::OkStatus();
}

void InputBuilder::AddSlice(const Slice& slice, const SlotStates& slots) {
  const Slot& slot = slots.slot(slice.slot);
  const int32_t* table = slots.block_table(slice.slot).data();
  int32_t* out = host_;
  int32_t* token_ids = out + sections_.token_ids + num_tokens_;
  int32_t* positions = out + sections_.positions + num_tokens_;
  int32_t* slot_mapping = out + sections_.slot_mapping + num_tokens_;
  for (int32_t i = 0; i < slice.num_tokens; ++i) {
    const int32_t position = slot.num_computed + i;
    const TokenId token = slot.tokens[position];
    token_ids[i] = token == kUnknownToken ? ~slice.slot.value() : token;
    positions[i] = position;
    slot_mapping[i] =
        table[position / limits_.block_size] * limits_.block_size +
        position % limits_.block_size;
  }
  if (const int32_t num_rows = NumPromptRows(slice, slot); num_rows > 0) {
    prompt_runs_.push_back({slice.slot, slot.num_computed + 1, num_rows});
    for (int32_t i = 0; i < num_rows; ++i) {
      out[sections_.prompt_rows + num_prompt_rows_++] = num_tokens_ + i;
    }
  }
  num_tokens_ += slice.num_tokens;
  out[sections_.context_lens + num_seqs_] =
      slot.num_computed + slice.num_tokens;
  out[sections_.seq_slots + num_seqs_] = slice.slot.value();
  if (limits_.sparse_pages > 0) {
    out[sections_.first_sparse + num_seqs_] = FirstSparsePosition(
        limits_.sparse_pages, limits_.block_size, slot.num_prompt);
  }
  ++num_seqs_;
  out[sections_.query_start + num_seqs_] = num_tokens_;
  if (slice.sample) {
    const size_t sample_idx = sampled_slots_.size();
    out[sections_.sample_rows + sample_idx] = num_tokens_ - 1;
    // What is not plain is chosen elsewhere.
    reinterpret_cast<ChoiceRow*>(out + sections_.choices)[sample_idx] = {
        slot.sampling.seed, slot.num_tokens(), slot.sampling.temperature,
        IsPlainRow(slot) ? slice.slot.value() : -1, 0};
    sampled_slots_.push_back(slice.slot);
  }
}

void InputBuilder::AddPadding(const StepSize& size) {
  int32_t* out = host_;
  for (int32_t i = num_tokens_; i < size.num_tokens; ++i) {
    out[sections_.token_ids + i] = 0;
    out[sections_.positions + i] = 0;
    out[sections_.slot_mapping + i] = -1;
  }
  auto* choices = reinterpret_cast<ChoiceRow*>(out + sections_.choices);
  for (int32_t i = num_seqs_; i < size.num_seqs; ++i) {
    out[sections_.query_start + i + 1] = num_tokens_;
    out[sections_.context_lens + i] = 0;
    out[sections_.seq_slots + i] = 0;
    if (limits_.sparse_pages > 0) out[sections_.first_sparse + i] = 0;
    out[sections_.sample_rows + i] = i;
    choices[i] = {0, 0, 0, /*slot=*/-1, 0};
  }
  num_tokens_ = size.num_tokens;
  num_seqs_ = num_samples_ = size.num_seqs;
}

void InputBuilder::Begin() {
  host_ = hosts_[++build_ % kMaxInFlight]->as<int32_t>();
  num_tokens_ = 0;
  num_seqs_ = 0;
  num_samples_ = 0;
  num_prompt_rows_ = 0;
  sampled_slots_.clear();
  prompt_runs_.clear();
}

void InputBuilder::AddRun(int64_t from, int64_t to, int64_t count) {
  WordRun* runs = host_runs();
  for (int64_t at = 0; at < count; at += kMaxRunWords) {
    runs[num_runs_++] = {
        static_cast<int32_t>(from + at), static_cast<int32_t>(to + at),
        static_cast<int32_t>(std::min(count - at, kMaxRunWords))};
  }
}

absl::StatusOr<BatchInput> InputBuilder::Send(SlotStates* slots) {
  num_runs_ = 0;
  AddRun(0, 0, sections_.end);
  if (slots != nullptr) {
    int64_t from = sections_.end;
    for (const SlotStates::ChangedRow& row : slots->changed_rows()) {
      const int32_t first = row.slot * max_blocks_per_seq_ + row.begin;
      const int32_t count = row.end - row.begin;
      std::copy_n(slots->block_tables() + first, count, host_ + from);
      AddRun(from, max_array_words_ + first, count);
      from += count;
    }
    slots->ClearChanges();
  }
  QUIRE_RETURN_IF_ERROR(backend_->CopyRuns({.runs = host_runs(),
                                            .values = host_,
                                            .out = device_->as<int32_t>(),
                                            .num_runs = num_runs_}));
  const int32_t* in = device_->as<int32_t>();
  BatchInput batch;
  batch.num_tokens = num_tokens_;
  batch.num_seqs = num_seqs_;
  batch.num_samples = num_samples_;
  batch.token_ids = in + sections_.token_ids;
  batch.sampled = device_sampled_->as<int32_t>();
  batch.positions = in + sections_.positions;
  batch.slot_mapping = in + sections_.slot_mapping;
  batch.query_start = in + sections_.query_start;
  batch.context_lens = in + sections_.context_lens;
  batch.seq_slots = in + sections_.seq_slots;
  batch.sample_rows = in + sections_.sample_rows;
  batch.choices = reinterpret_cast<const ChoiceRow*>(in + sections_.choices);
  batch.prompt_rows = in + sections_.prompt_rows;
  batch.num_prompt_rows = num_prompt_rows_;
  batch.block_tables = in + max_array_words_;
  batch.max_blocks_per_seq = max_blocks_per_seq_;
  if (limits_.sparse_pages > 0) {
    batch.sparse = {in + sections_.first_sparse, limits_.sparse_pages};
  }
  return batch;
}

absl::StatusOr<BatchInput> InputBuilder::Build(const StepPlan& plan,
                                               SlotStates* slots,
                                               const StepSize& size) {
  Begin();
  QUIRE_RETURN_IF_ERROR(CountAndCheck(plan, *slots));
  const bool is_padded = size.num_tokens > 0;
  if (is_padded) {
    CHECK_LE(plan.decodes.size() + plan.chunks.size(), size.num_seqs);
    CHECK_LE(size.num_seqs, limits_.max_num_seqs);
    sections_ = SectionsFor(size.num_tokens, size.num_seqs, size.num_seqs,
                            /*num_prompt_rows=*/0);
  }
  host_[sections_.query_start] = 0;
  for (SlotId slot : plan.decodes) {
    AddSlice({slot, 1, /*sample=*/true}, *slots);
  }
  for (const Slice& slice : plan.chunks) AddSlice(slice, *slots);
  if (is_padded) {
    CHECK_LE(num_tokens_, size.num_tokens);
    CHECK_EQ(num_prompt_rows_, 0);
    AddPadding(size);
  }
  QUIRE_ASSIGN_OR_RETURN(BatchInput batch, Send(slots));
  batch.are_contexts_apart = plan.chunks.empty();
  batch.min_new_tokens = FewestTokens(plan);
  DCHECK_GE(batch.min_new_tokens, size.min_new_tokens);
  return batch;
}

absl::StatusOr<BatchInput> InputBuilder::BuildPadding(const StepSize& size) {
  CHECK_LE(size.num_seqs, size.num_tokens);
  CHECK_LE(size.num_seqs, limits_.max_num_seqs);
  Begin();
  sections_ = SectionsFor(size.num_tokens, size.num_seqs, size.num_seqs,
                          /*num_prompt_rows=*/0);
  host_[sections_.query_start] = 0;
  AddPadding(size);
  QUIRE_ASSIGN_OR_RETURN(BatchInput batch, Send(/*slots=*/nullptr));
  // Such a step is recorded for decodes.
  batch.are_contexts_apart = size.num_seqs == size.num_tokens;
  batch.min_new_tokens = size.min_new_tokens;
  return batch;
}

}  // namespace quire
