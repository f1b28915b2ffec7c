// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/simulated_worker_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace quire {

SimulatedWorkerGroup::SimulatedWorkerGroup(const SimulatedGroupOptions& options)
    : options_(options) {}

GroupReady SimulatedWorkerGroup::Begin(uint64_t group_epoch) {
  absl::MutexLock lock(&mutex_);
  last_step_ = {.coordinator_epoch = Epoch(1),
                .group_epoch = Epoch(group_epoch),
                .step_id = StepId(0)};
  results_.clear();
  rows_.clear();
  Clear();
  return {.coordinator_epoch = Epoch(1),
          .group_epoch = Epoch(group_epoch),
          .num_blocks = options_.num_blocks,
          .num_host_blocks = options_.num_host_blocks,
          .swap_blocks_per_second = options_.swap_blocks_per_second,
          .prefill_tokens_per_second = options_.prefill_tokens_per_second,
          .block_size = options_.has_rows ? options_.block_size : 0};
}

void SimulatedWorkerGroup::Clear() {
  slots_.assign(options_.max_num_seqs, Slot());
  cache_.assign(int64_t{options_.num_blocks} * options_.block_size, 0);
  host_cache_.assign(int64_t{options_.num_host_blocks} * options_.block_size,
                     0);
  num_holders_.assign(options_.num_blocks, 0);
  // Rows keep their memory, without its contents.
  rows_.resize(options_.has_rows ? options_.max_num_seqs : 0);
  for (std::vector<KvValue>& row : rows_) std::fill(row.begin(), row.end(), 0);
  row_is_held_.assign(rows_.size(), false);
  digest_.Clear();
}

void SimulatedWorkerGroup::DeliverTo(DispatchListener* listener) {
  absl::MutexLock lock(&mutex_);
  listener_ = listener;
}

void SimulatedWorkerGroup::CorruptNextDigest() {
  absl::MutexLock lock(&mutex_);
  corrupt_next_ = true;
}

absl::Status SimulatedWorkerGroup::status() const {
  absl::MutexLock lock(&mutex_);
  return status_;
}

int64_t SimulatedWorkerGroup::num_plans() const {
  absl::MutexLock lock(&mutex_);
  return num_plans_;
}

int64_t SimulatedWorkerGroup::num_resyncs() const {
  absl::MutexLock lock(&mutex_);
  return num_resyncs_;
}

int64_t SimulatedWorkerGroup::num_swaps() const {
  absl::MutexLock lock(&mutex_);
  return num_swaps_;
}

int32_t SimulatedWorkerGroup::num_live_slots() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int32_t>(
      std::count_if(slots_.begin(), slots_.end(),
                    [](const Slot& slot) { return slot.live; }));
}

std::optional<StepResult> SimulatedWorkerGroup::TakeResult() {
  absl::MutexLock lock(&mutex_);
  if (results_.empty()) return std::nullopt;
  StepResult result = std::move(results_.front());
  results_.pop_front();
  return result;
}

void SimulatedWorkerGroup::Send(const StepPlan& plan) {
  StepResult result;
  DispatchListener* listener = nullptr;
  {
    absl::MutexLock lock(&mutex_);
    if (plan.identity.group_epoch != last_step_.group_epoch) return;
    ++num_plans_;
    CheckIdentity(plan.identity);
    if (plan.resync) {
      ++num_resyncs_;
      Clear();
    }
    for (Slot& slot : slots_) LeaveBehind(&slot);
    // First, because a block that is moved out may be another's at once.
    ApplySwapOuts(plan);
    ApplyTables(plan);
    MapRows(plan);
    ApplyCopies(plan);
    ran_.assign(options_.max_num_seqs, false);
    for (SlotId slot : plan.decodes) {
      RunSlice({.slot = slot, .num_tokens = 1, .sample = true},
               /*is_decode=*/true, &result);
    }
    for (const Slice& slice : plan.chunks) {
      RunSlice(slice, /*is_decode=*/false, &result);
    }
    result.identity = plan.identity;
    result.token_digest = TokenDigest(result.tokens);
    result.table_digest = digest_.value();
    result.step_us = 1;
    if (std::exchange(corrupt_next_, false)) result.table_digest ^= 1;
    listener = listener_;
    if (listener == nullptr) results_.push_back(std::move(result));
  }
  if (listener != nullptr) listener->OnStepResult(std::move(result));
}

void SimulatedWorkerGroup::CheckIdentity(const StepIdentity& identity) {
  if (identity.coordinator_epoch != last_step_.coordinator_epoch) {
    Fail("another coordinator epoch");
  }
  if (identity.step_id.value() != last_step_.step_id.value() + 1) {
    Fail(absl::StrCat("step ", identity.step_id.value(), " after step ",
                      last_step_.step_id.value()));
  }
  last_step_.step_id = identity.step_id;
}

void SimulatedWorkerGroup::Fail(const std::string& what) {
  if (!status_.ok()) return;
  status_ = absl::InternalError(
      absl::StrCat("step ", last_step_.step_id.value(), ": ", what));
}

SimulatedWorkerGroup::KvValue* SimulatedWorkerGroup::Kv(const Slot& slot,
                                                        int32_t position) {
  static KvValue nowhere;
  if (slot.row.has_value()) {
    std::vector<KvValue>& row = rows_[slot.row->value()];
    if (position < static_cast<int64_t>(row.size())) return &row[position];
    Fail(absl::StrCat("position ", position, " of row ", slot.row->value(),
                      " has no memory"));
    nowhere = 0;
    return &nowhere;
  }
  const int32_t idx = position / options_.block_size;
  if (idx >= static_cast<int32_t>(slot.table.size())) {
    Fail(absl::StrCat("position ", position, " has no block"));
    nowhere = 0;
    return &nowhere;
  }
  return &cache_[int64_t{slot.table[idx].value()} * options_.block_size +
                 position % options_.block_size];
}

// Whether all who hold the writer's block have this value there: it was
// computed before, or is found by them in the very step that computes it.
bool SimulatedWorkerGroup::IsExpected(const Slot* writer, int32_t position,
                                      KvValue value) {
  const size_t idx = position / options_.block_size;
  const BlockId block = writer->table[idx];
  if (BlockBegin(block)[position % options_.block_size] == value) return true;
  return std::all_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    if (!slot.live || idx >= slot.table.size() || idx < slot.num_dropped ||
        slot.table[idx] != block) {
      return true;
    }
    const size_t at = position;
    return &slot == writer ||
           (at < slot.written.size() && slot.written[at] == value);
  });
}

void SimulatedWorkerGroup::RunSlice(const Slice& slice, bool is_decode,
                                    StepResult* result) {
  Slot* slot = At(slice.slot, /*live=*/true);
  if (!slot->live) return;
  const int32_t num_left =
      static_cast<int32_t>(slot->tokens.size()) - slot->num_computed;
  if (ran_[slice.slot.value()]) Fail("a slot runs twice in a step");
  ran_[slice.slot.value()] = true;
  if (slice.num_tokens < 1 || slice.num_tokens > num_left ||
      slice.sample != (slice.num_tokens == num_left) ||
      (is_decode && num_left != 1)) {
    Fail(absl::StrCat("slot ", slice.slot.value(), " with ", num_left,
                      " tokens left runs ", slice.num_tokens));
    return;
  }
  // What attention reads must be what this sequence wrote.
  for (int32_t position = FirstSeen(*slot); position < slot->num_computed;
       ++position) {
    if (*Kv(*slot, position) != slot->written[position]) {
      Fail(absl::StrCat("slot ", slice.slot.value(), " reads position ",
                        position, ", which holds something else"));
    }
  }
  uint64_t prefix = slot->num_computed == 0
                        ? kEmptyPrefix
                        : *Kv(*slot, slot->num_computed - 1);
  for (int32_t i = 0; i < slice.num_tokens; ++i) {
    const int32_t position = slot->num_computed++;
    prefix = Extend(prefix, slot->tokens[position]);
    KvValue* value = Kv(*slot, position);
    const size_t idx = position / options_.block_size;
    if (idx < slot->table.size() &&
        num_holders_[slot->table[idx].value()] != 1 &&
        !IsExpected(slot, position, prefix)) {
      Fail(absl::StrCat("slot ", slice.slot.value(), " writes a shared block"));
    }
    *value = prefix;
    slot->written.push_back(prefix);
  }
  ScorePrompt(*slot, slice.num_tokens, result);
  if (!slice.sample) return;
  const int32_t num_tokens = static_cast<int32_t>(slot->tokens.size());
  TokenId token = SimulatedToken(prefix, slot->sampling, num_tokens,
                                 num_tokens - slot->num_prompt_tokens);
  if (slot->sampling.needs_mask) {
    if (slot->mask.empty()) {
      Fail(
          absl::StrCat("slot ", slice.slot.value(), " samples without a mask"));
      return;
    }
    token = FirstAllowed(slot->mask, token);
  }
  slot->tokens.push_back(token);
  if (slot->sampling.num_logprobs >= 0) {
    result->logprobs.push_back(
        {.sample_idx = static_cast<int32_t>(result->tokens.size()),
         .logprob = -static_cast<float>(token),
         .rank = 1,
         .top = TopOfPrefix(prefix, slot->sampling.num_logprobs)});
  }
  result->tokens.push_back(token);
}

// Of the tokens after those that were just computed.
void SimulatedWorkerGroup::ScorePrompt(const Slot& slot, int32_t num_tokens,
                                       StepResult* result) {
  const int32_t first = slot.num_computed - num_tokens + 1;
  const int32_t end = std::min(slot.num_computed + 1, slot.num_prompt_tokens);
  if (slot.sampling.num_prompt_logprobs < 0 || first >= end) return;
  PromptLogprobs& prompt = result->prompt_logprobs.emplace_back();
  prompt.sequence_id = slot.sequence_id;
  prompt.first_token = first;
  for (int32_t i = first; i < end; ++i) {
    prompt.tokens.push_back({.sample_idx = i - first,
                             .logprob = -static_cast<float>(slot.tokens[i]),
                             .rank = 1,
                             .top = {}});
  }
}

}  // namespace quire
