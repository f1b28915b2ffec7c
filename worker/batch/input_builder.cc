// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/input_builder.h"

#include <algorithm>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Arrays start on cache lines.
constexpr int64_t kAlignment = 64 / sizeof(int32_t);

int64_t RoundUp(int64_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename... Args>
absl::Status Contradiction(SlotId slot, const Args&... what) {
  return absl::InternalError(
      absl::StrCat("slot ", slot.value(), ": ", what...));
}

}  // namespace

InputBuilder::Sections InputBuilder::SectionsFor(int64_t num_tokens,
                                                 int64_t num_seqs,
                                                 int64_t num_samples) const {
  Sections s = {};
  s.positions = s.token_ids + RoundUp(num_tokens);
  s.slot_mapping = s.positions + RoundUp(num_tokens);
  s.query_start = s.slot_mapping + RoundUp(num_tokens);
  s.context_lens = s.query_start + RoundUp(num_seqs + 1);
  s.seq_slots = s.context_lens + RoundUp(num_seqs);
  s.first_sparse = s.seq_slots + RoundUp(num_seqs);
  s.sample_rows =
      s.first_sparse + (limits_.sparse_pages > 0 ? RoundUp(num_seqs) : 0);
  s.end = s.sample_rows + RoundUp(num_samples);
  return s;
}

InputBuilder::InputBuilder(Backend* backend, const SlotLimits& limits,
                           int32_t max_num_batched_tokens)
    : backend_(backend),
      limits_(limits),
      max_num_batched_tokens_(max_num_batched_tokens),
      last_build_(limits.max_num_seqs, 0) {
  sampled_slots_.reserve(limits.max_num_seqs);
}

absl::StatusOr<std::unique_ptr<InputBuilder>> InputBuilder::Create(
    Backend* backend, const SlotLimits& limits,
    int32_t max_num_batched_tokens) {
  auto builder = absl::WrapUnique(
      new InputBuilder(backend, limits, max_num_batched_tokens));
  const int64_t bytes =
      builder
          ->SectionsFor(max_num_batched_tokens, limits.max_num_seqs,
                        limits.max_num_seqs)
          .end *
      sizeof(int32_t);
  const int64_t table_entries =
      int64_t{limits.max_num_seqs} *
      ((limits.max_model_len + limits.block_size - 1) / limits.block_size);
  QUIRE_ASSIGN_OR_RETURN(builder->host_, backend->AllocateHost(bytes));
  QUIRE_ASSIGN_OR_RETURN(builder->device_, backend->Allocate(bytes));
  QUIRE_ASSIGN_OR_RETURN(builder->device_tables_,
                         backend->Allocate(table_entries * sizeof(int32_t)));
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
  ++build_;
  int64_t num_tokens = plan.decodes.size();
  num_samples_ = static_cast<int32_t>(plan.decodes.size());
  for (SlotId slot : plan.decodes) {
    QUIRE_RETURN_IF_ERROR(CheckSlice({slot, 1, /*sample=*/true}, slots));
  }
  for (const Slice& slice : plan.chunks) {
    QUIRE_RETURN_IF_ERROR(CheckSlice(slice, slots));
    num_tokens += slice.num_tokens;
    num_samples_ += slice.sample ? 1 : 0;
  }
  if (num_tokens > max_num_batched_tokens_) {
    return absl::InternalError(absl::StrCat("a step of ", num_tokens,
                                            " tokens, the most is ",
                                            max_num_batched_tokens_));
  }
  sections_ = SectionsFor(num_tokens, plan.decodes.size() + plan.chunks.size(),
                          num_samples_);
  return absl::OkStatus();
}

void InputBuilder::AddSlice(const Slice& slice, const SlotStates& slots) {
  const Slot& slot = slots.slot(slice.slot);
  const int32_t* table = slots.block_table(slice.slot).data();
  int32_t* out = host_->as<int32_t>();
  int32_t* token_ids = out + sections_.token_ids + num_tokens_;
  int32_t* positions = out + sections_.positions + num_tokens_;
  int32_t* slot_mapping = out + sections_.slot_mapping + num_tokens_;
  for (int32_t i = 0; i < slice.num_tokens; ++i) {
    const int32_t position = slot.num_computed + i;
    token_ids[i] = slot.tokens[position];
    positions[i] = position;
    slot_mapping[i] =
        table[position / limits_.block_size] * limits_.block_size +
        position % limits_.block_size;
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
    out[sections_.sample_rows + sampled_slots_.size()] = num_tokens_ - 1;
    sampled_slots_.push_back(slice.slot);
  }
}

absl::Status InputBuilder::UploadTables(SlotStates* slots) {
  const int64_t row_entries = slots->max_blocks_per_seq();
  for (const SlotStates::ChangedRow& row : slots->changed_rows()) {
    const int64_t first = row.slot * row_entries + row.begin;
    QUIRE_RETURN_IF_ERROR(backend_->CopyToDevice(
        slots->block_tables() + first, device_tables_->as<int32_t>() + first,
        (row.end - row.begin) * sizeof(int32_t)));
  }
  slots->ClearChanges();
  return absl::OkStatus();
}

absl::StatusOr<BatchInput> InputBuilder::Build(const StepPlan& plan,
                                               SlotStates* slots) {
  QUIRE_RETURN_IF_ERROR(CountAndCheck(plan, *slots));
  num_tokens_ = 0;
  num_seqs_ = 0;
  sampled_slots_.clear();
  host_->as<int32_t>()[sections_.query_start] = 0;
  for (SlotId slot : plan.decodes) {
    AddSlice({slot, 1, /*sample=*/true}, *slots);
  }
  for (const Slice& slice : plan.chunks) AddSlice(slice, *slots);
  QUIRE_RETURN_IF_ERROR(backend_->CopyToDevice(
      host_->data(), device_->data(), sections_.end * sizeof(int32_t)));
  QUIRE_RETURN_IF_ERROR(UploadTables(slots));
  const int32_t* in = device_->as<int32_t>();
  BatchInput batch;
  batch.num_tokens = num_tokens_;
  batch.num_seqs = num_seqs_;
  batch.num_samples = num_samples_;
  batch.token_ids = in + sections_.token_ids;
  batch.positions = in + sections_.positions;
  batch.slot_mapping = in + sections_.slot_mapping;
  batch.query_start = in + sections_.query_start;
  batch.context_lens = in + sections_.context_lens;
  batch.seq_slots = in + sections_.seq_slots;
  batch.sample_rows = in + sections_.sample_rows;
  batch.block_tables = device_tables_->as<int32_t>();
  batch.max_blocks_per_seq = slots->max_blocks_per_seq();
  if (limits_.sparse_pages > 0) {
    batch.sparse = {in + sections_.first_sparse, limits_.sparse_pages};
  }
  return batch;
}

}  // namespace quire
