// SPDX-License-Identifier: Apache-2.0
//
// How EngineCore makes a step plan: what a policy decides, with the KV
// manager's blocks.
#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "coordinator/engine/engine_core.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Empty, with the memory it has.
void ClearPlan(StepPlan* plan) {
  plan->resync = false;
  plan->released.clear();
  plan->forks.clear();
  plan->next_tokens.clear();
  plan->admitted.clear();
  plan->replaced.clear();
  plan->appended.clear();
  plan->mappings.clear();
  plan->swap_outs.clear();
  plan->swap_ins.clear();
  plan->copies.clear();
  plan->masks.clear();
  plan->decodes.clear();
  plan->chunks.clear();
}

}  // namespace

const StepPlan* EngineCore::Plan(absl::Time now) {
  ExpireDeadlines(now);
  if (!is_ready() || num_in_flight() >= options_.run_ahead_depth) {
    return nullptr;
  }
  if (resync_ && !in_flight_.empty()) return nullptr;
  ClearPlan(&plan_);
  CompactRunning();
  if (resync_) BeginResync(now);
  RefreshShrunkGroups();
  if (groups_.empty()) {
    CHECK_EQ(kv_->Usage().num_held, 0) << "KV blocks have leaked";
    if (released_.empty() && !plan_.resync) return nullptr;
  }
  DropBehindWindows();
  InFlightStep step = NewStep();
  decision_.Clear();
  const View view = MakeView(now);
  Schedule(view);
  waiting_.TakeDecision(view, decision_, now);
  PreemptDecided(now);
  RunDecided(&step);
  PlaceLate(&step);
  AdmitDecided(&step, now);
  MapAhead();
  const bool runs = !plan_.decodes.empty() || !plan_.chunks.empty();
  // A plan that only gives slots back is worth sending to idle workers alone.
  const bool tidies = plan_.resync || !plan_.admitted.empty() ||
                      (in_flight_.empty() && !released_.empty());
  if (!runs && !tidies) {
    spare_steps_.push_back(std::move(step));
    return nullptr;
  }
  Seal(std::move(step), now);
  return &plan_;
}

absl::Time EngineCore::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture()
                            : deadlines_.begin()->first;
}

void EngineCore::ExpireDeadlines(absl::Time now) {
  bool expired = false;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    EndGroup(groups_.at(deadlines_.begin()->second).get(), FinishReason::kNone,
             absl::DeadlineExceededError("the request's deadline has passed"),
             now);
    expired = true;
  }
  if (expired) SweepEnded();
}

void EngineCore::CompactRunning() {
  if (!running_has_gaps_) return;
  running_has_gaps_ = false;
  const auto gone = std::remove_if(
      running_.begin(), running_.end(), [this](const RunningSequence& entry) {
        return slots_[entry.slot.value()] == nullptr;
      });
  running_.erase(gone, running_.end());
}

// The workers forget every slot; whoever ran is computed anew, because what a
// wrong table wrote may lie in anyone's blocks. REQUIRES: nothing in flight.
void EngineCore::BeginResync(absl::Time now) {
  waiting_.Interrupt(running_, WaitReason::kResync, now);
  while (!running_.empty()) {
    Requeue(slots_[running_.back().slot.value()]->group);
    CompactRunning();
  }
  released_.clear();
  late_released_.clear();
  shrunk_.clear();
  unplaced_.clear();
  // Prefixes and parked blocks may be wrong too.
  kv_->ForgetAll();
  for (const auto& [key, group] : groups_) {
    for (Sequence& seq : group->sequences) seq.parked = false;
    SettleWaiting(group.get());
  }
  plan_.resync = true;
  resync_ = false;
}

View EngineCore::MakeView(absl::Time now) {
  const KvUsage usage = kv_->Usage();
  View view;
  waiting_.FillView(running_, now, &view);
  view.block_size = kv_->block_size();
  view.max_seq_blocks = max_seq_blocks_;
  view.num_free_blocks = usage.num_free + usage.num_cached;
  view.watermark_blocks =
      static_cast<int32_t>(options_.watermark * usage.num_blocks);
  view.num_free_slots =
      static_cast<int32_t>(free_slots_.size()) - num_reserved_slots_;
  view.max_num_batched_tokens = options_.max_num_batched_tokens;
  view.token_multiple = options_.token_multiple;
  const uint64_t step = last_step_.step_id.value() + 1;
  if (options_.forced_preemption_period > 0 &&
      step % options_.forced_preemption_period == 0 &&
      step != last_forced_step_) {
    view.force_preemption = true;
    last_forced_step_ = step;
  }
  RefreshVictims(view.num_free_blocks, view.force_preemption);
  RefreshHints(view);
  return view;
}

void EngineCore::RunDecided(InFlightStep* step) {
  const int32_t block_size = kv_->block_size();
  const int32_t num_running = static_cast<int32_t>(running_.size());
  for (const ScheduledSlice& slice : decision_.slices) {
    const int32_t idx = slice.running_idx;
    RunningSequence& entry = running_[idx];
    const int32_t num_tokens = entry.num_computed_tokens + slice.num_tokens;
    if (num_tokens > entry.num_blocks * block_size || entry.must_ask) {
      const size_t num_copies = plan_.copies.size();
      const absl::Status status = kv_->Grow(
          entry.slot, entry.num_computed_tokens, slice.num_tokens, &plan_);
      if (!status.ok()) {
        ++metrics_.counters.num_refused_growths;
        entry.shares_last_block = entry.must_ask;
        continue;
      }
      const int32_t num_blocks = kv_->NumBlocks(entry.slot);
      entry.num_private_blocks +=
          num_blocks - entry.num_blocks +
          static_cast<int32_t>(plan_.copies.size() - num_copies);
      entry.num_blocks = num_blocks;
      SetMustAsk(/*must_ask=*/false, &entry);
    }
    AddSlice(&entry, slice.num_tokens, step);
    // Siblings may share what it writes next. The first token after a fork
    // rewrites what its parent wrote and copies nothing; this is when the
    // second one's copy becomes due.
    if ((idx > 0 && running_[idx - 1].arrival == entry.arrival) ||
        (idx + 1 < num_running && running_[idx + 1].arrival == entry.arrival)) {
      SetMustAsk(kv_->MustCopy(entry.slot, entry.num_computed_tokens), &entry);
    }
  }
  // Decodes of preempted ones kept their places until here.
  CompactRunning();
}

void EngineCore::AddSlice(RunningSequence* running, int32_t num_tokens,
                          InFlightStep* step) {
  const bool is_prefill = running->is_prefill();
  running->num_computed_tokens += num_tokens;
  const bool sample = running->num_computed_tokens == running->num_tokens;
  ++step->num_sequences;
  step->num_tokens += num_tokens;
  if (!is_prefill) {
    DCHECK(num_tokens == 1 && sample);
    plan_.decodes.push_back(running->slot);
    step->samples.push_back(slots_[running->slot.value()]);
  } else {
    plan_.chunks.push_back(
        {.slot = running->slot, .num_tokens = num_tokens, .sample = sample});
    Sequence* seq = slots_[running->slot.value()];
    if (sample) chunk_samples_.push_back(seq);
    if (seq->group->sampling.slot.num_prompt_logprobs >= 0 &&
        seq->group->num_scored_tokens < seq->num_prompt_tokens) {
      step->prompts.push_back({seq->request, seq->id});
    }
    if (seq->publishes) {
      Publish(*seq, running->num_computed_tokens);
      hints_are_stale_ = true;
    }
    if (sample && seq->group->num_reserved_slots > 0) {
      prefilled_.push_back(seq);
    }
    step->num_chunk_tokens += num_tokens;
    metrics_.counters.num_prefill_tokens += num_tokens;
  }
  running->num_tokens += sample;
  if (!sample) return;
  const Sequence& seq = *slots_[running->slot.value()];
  const bool needs_mask = seq.group->sampling.slot.needs_mask;
  running->awaits_result = needs_mask || seq.group->beams != nullptr;
  if (needs_mask) {
    DCHECK(!seq.group->AwaitsMask(seq));
    plan_.masks.push_back({running->slot, seq.mask});
  }
}

// What the next step writes is readied while this one runs.
void EngineCore::MapAhead() {
  if (!kv_->maps_ahead() || (plan_.decodes.empty() && plan_.chunks.empty())) {
    return;
  }
  for (const RunningSequence& entry : running_) {
    if (entry.is_exhausted()) continue;
    const int32_t num_left = entry.num_tokens - entry.num_computed_tokens;
    kv_->MapAhead(entry.slot,
                  entry.num_computed_tokens +
                      std::min(num_left, options_.max_num_batched_tokens),
                  &plan_);
  }
}

EngineCore::InFlightStep EngineCore::NewStep() {
  InFlightStep step;
  if (!spare_steps_.empty()) {
    step = std::move(spare_steps_.back());
    spare_steps_.pop_back();
  }
  step.samples.clear();
  step.prompts.clear();
  step.num_sequences = 0;
  step.num_tokens = 0;
  step.num_chunk_tokens = 0;
  chunk_samples_.clear();
  prefilled_.clear();
  return step;
}

void EngineCore::Seal(InFlightStep step, absl::Time now) {
  last_step_.step_id = StepId(last_step_.step_id.value() + 1);
  plan_.identity = last_step_;
  std::swap(plan_.released, released_);
  std::swap(plan_.forks, forks_);
  std::swap(plan_.next_tokens, next_tokens_);
  step.step_id = last_step_.step_id;
  step.table_digest = last_table_digest_ = kv_->table_digest();
  step.samples.insert(step.samples.end(), chunk_samples_.begin(),
                      chunk_samples_.end());
  step.planned = now;
  EngineCounters& counters = metrics_.counters;
  ++counters.num_steps;
  counters.num_decode_tokens += static_cast<int64_t>(plan_.decodes.size());
  counters.num_copied_blocks += static_cast<int64_t>(plan_.copies.size());
  counters.num_swapped_out_blocks +=
      static_cast<int64_t>(plan_.swap_outs.size());
  counters.num_swapped_in_blocks += static_cast<int64_t>(plan_.swap_ins.size());
  CountBlocks();
  in_flight_.push_back(std::move(step));
  // From here on changes are for the next plan.
  for (SlotId slot : std::exchange(late_released_, {})) {
    Sequence* seq = slots_[slot.value()];
    if (seq == nullptr || !seq->finished) continue;  // it has gone already
    LeaveSlot(seq, now);
  }
  CompactRunning();  // siblings may get the slots that have just come free
  for (Sequence* seq : prefilled_) ForkSiblings(seq);
}

}  // namespace quire
