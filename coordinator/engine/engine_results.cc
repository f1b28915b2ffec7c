// SPDX-License-Identifier: Apache-2.0
//
// What EngineCore makes of step results.
#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/best_of.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/output_processor.h"
#include "glog/logging.h"

namespace quire {
namespace {

// Sequences are scattered in memory and touched once a step: fetch each ahead,
// then the place of its next token. At 2,048 sequences this halves the pass.
constexpr size_t kSequenceDistance = 16;
constexpr size_t kTokenDistance = 8;

void Prefetch(const std::vector<Sequence*>& samples, size_t idx) {
  if (idx + kSequenceDistance < samples.size()) {
    const char* seq =
        reinterpret_cast<const char*>(samples[idx + kSequenceDistance]);
    __builtin_prefetch(seq, /*rw=*/1);
    __builtin_prefetch(seq + 64, /*rw=*/1);
  }
  if (idx + kTokenDistance < samples.size()) {
    const std::vector<TokenId>& tokens = samples[idx + kTokenDistance]->tokens;
    __builtin_prefetch(tokens.data() + tokens.size(), /*rw=*/1);
  }
}

}  // namespace

void EngineCore::OnStepResult(StepResult result, absl::Time now) {
  InFlightStep step;
  if (!TakeStep(result, &step)) {
    ++metrics_.counters.num_stale_results;
    return;
  }
  if (result.tokens.size() != step.samples.size()) {
    const std::string cause = absl::StrCat(
        "step ", step.step_id.value(), " yields ", result.tokens.size(),
        " tokens for ", step.samples.size(), " sequences");
    LOG(ERROR) << cause;
    OnGroupLost(last_step_.group_epoch, absl::InternalError(cause), now);
    return;
  }
  estimator_.Record(step.num_sequences, step.num_tokens, result.step_us);
  if (metrics_.steps.size() < kMaxSamples) {
    metrics_.steps.push_back({.step_id = step.step_id,
                              .num_sequences = step.num_sequences,
                              .num_tokens = step.num_tokens,
                              .turnaround = now - step.planned,
                              .step_us = result.step_us});
  } else {
    ++metrics_.num_dropped_samples;
  }
  NotePrefillRate(step, result);
  if (!resync_ && result.table_digest != step.table_digest) {
    LOG(ERROR) << "block tables differ from step " << step.step_id
               << " on; restating them";
    ++metrics_.counters.num_resyncs;
    resync_ = true;
    waiting_.AllWait(WaitReason::kResync, now);
  }
  if (resync_) {
    // Tokens from wrong tables may be wrong tokens.
    DropTokens(step);
  } else {
    AcceptPrompts(step, &result);
    AcceptTokens(step, &result, now);
    ClearSuspects(step);
  }
  SweepEnded();
  step.samples.clear();
  spare_steps_.push_back(std::move(step));
}

bool EngineCore::TakeStep(const StepResult& result, InFlightStep* step) {
  const StepIdentity& identity = result.identity;
  if (!is_ready() || in_flight_.empty() ||
      identity.coordinator_epoch != last_step_.coordinator_epoch ||
      identity.group_epoch != last_step_.group_epoch ||
      identity.step_id != in_flight_.front().step_id) {
    return false;
  }
  *step = std::move(in_flight_.front());
  in_flight_.pop_front();
  return true;
}

// Steps that are nearly full of prompts say what recomputing would cost here,
// beside whom it would run.
void EngineCore::NotePrefillRate(const InFlightStep& step,
                                 const StepResult& result) {
  constexpr double kNewShare = 0.2;  // of a measurement in the average
  if (result.step_us <= 0 ||
      2 * step.num_chunk_tokens < options_.max_num_batched_tokens) {
    return;
  }
  const double rate = step.num_tokens * 1e6 / result.step_us;
  rates_.prefill_tokens =
      rates_.prefill_tokens <= 0
          ? rate
          : rates_.prefill_tokens + kNewShare * (rate - rates_.prefill_tokens);
}

void EngineCore::AcceptTokens(const InFlightStep& step, StepResult* result,
                              absl::Time now) {
  const int32_t block_size = kv_->block_size();
  size_t next_logprobs = 0;
  effects_.outputs.reserve(effects_.outputs.size() + step.samples.size());
  for (size_t idx = 0; idx < step.samples.size(); ++idx) {
    Prefetch(step.samples, idx);
    Sequence* seq = step.samples[idx];
    SampledLogprobs* logprobs = nullptr;
    if (next_logprobs < result->logprobs.size() &&
        result->logprobs[next_logprobs].sample_idx ==
            static_cast<int32_t>(idx)) {
      logprobs = &result->logprobs[next_logprobs++];
    }
    if (seq->num_in_flight > 0) --seq->num_in_flight;
    if (seq->finished) {
      ++metrics_.counters.num_wasted_tokens;
      continue;
    }
    if (seq->group->beams != nullptr) {
      AcceptBeam(seq, result->tokens[idx], logprobs, now);
      continue;
    }
    std::vector<SequenceOutput>* outputs =
        seq->withheld ? &withheld_ : &effects_.outputs;
    AcceptToken(result->tokens[idx], logprobs, seq, outputs);
    const FinishReason reason = outputs->back().finish_reason;
    ++metrics_.counters.num_generated_tokens;
    if (seq->num_output_tokens() == 1) {
      outputs->back().num_cached_tokens = seq->group->num_cached_tokens;
      if (seq->group->first_token_time == absl::InfinitePast()) {
        seq->group->first_token_time = now;
        effects_.begun.push_back(seq->group->key);
      }
    }
    if (seq->withheld) {
      Hold(std::move(withheld_.back()), seq);
      withheld_.clear();
    }
    // The last token is not computed yet; those before it are, and known.
    if (seq->publishes && seq->has_slot &&
        (seq->num_tokens() - 1) % block_size == 0) {
      Publish(*seq, seq->num_tokens() - 1);
    }
    if (seq->finished) {
      EndSequence(seq, reason, now);
    } else if (!seq->has_slot) {
      SettleWaiting(seq->group);
    }
  }
}

// A group preempted within its prompt may compute some of it twice.
void EngineCore::AcceptPrompts(const InFlightStep& step, StepResult* result) {
  for (PromptLogprobs& prompt : result->prompt_logprobs) {
    const auto of = std::find_if(
        step.prompts.begin(), step.prompts.end(),
        [&](const auto& p) { return p.second == prompt.sequence_id; });
    if (of == step.prompts.end()) continue;
    const auto it = groups_.find(of->first);
    if (it == groups_.end()) continue;
    SequenceGroup& group = *it->second;
    const int32_t num_told = group.num_scored_tokens - prompt.first_token;
    if (num_told < 0 ||
        num_told >= static_cast<int64_t>(prompt.tokens.size())) {
      continue;
    }
    SequenceOutput& output = effects_.outputs.emplace_back();
    output.request = group.key;
    output.prompt_logprobs.assign(
        std::make_move_iterator(prompt.tokens.begin() + num_told),
        std::make_move_iterator(prompt.tokens.end()));
    for (SampledLogprobs& token : output.prompt_logprobs) {
      token.sample_idx -= num_told;
    }
    group.num_scored_tokens +=
        static_cast<int32_t>(output.prompt_logprobs.size());
  }
}

void EngineCore::SetMask(RequestKey key, int32_t index, int64_t num_outputs,
                         TokenMask mask) {
  const auto it = groups_.find(key);
  if (it == groups_.end()) return;
  SequenceGroup* group = it->second.get();
  if (index < 0 || index >= static_cast<int64_t>(group->sequences.size())) {
    return;
  }
  Sequence& seq = group->sequences[index];
  if (seq.finished || num_outputs != seq.num_output_tokens()) return;
  const bool was_awaited = group->AwaitsMask(seq);
  seq.mask = std::move(mask);
  seq.num_masked_outputs = static_cast<int32_t>(num_outputs);
  if (!was_awaited) return;
  if (group->state == SequenceGroup::State::kWaiting) {
    SettleWaiting(group);
  } else if (seq.has_slot) {
    EntryOf(seq)->awaits_result = false;
  }
}

void EngineCore::EndSequence(Sequence* seq, FinishReason reason,
                             absl::Time now) {
  SequenceGroup* group = seq->group;
  if (group->num_unfinished() == 0) {
    if (seq->withheld) ReleaseBest(group, &effects_.outputs);
    EndGroup(group, reason, absl::OkStatus(), now);
  } else if (group->state == SequenceGroup::State::kWaiting) {
    ForgetParked(seq);
    SettleWaiting(group);
  } else if (!seq->has_slot) {
    ForgetParked(seq);
    --group->num_reserved_slots;
    --num_reserved_slots_;
  } else if (IsForkParent(seq->slot)) {
    // The plan that carries the fork must find the parent alive.
    EntryOf(*seq)->awaits_result = true;
    late_released_.push_back(seq->slot);
  } else {
    LeaveSlot(seq, now);
  }
}

// The others may have no slot: it was to compute the prompt that they fork
// from, or there was no room for them. Then they wait as if they were new.
void EngineCore::LeaveSlot(Sequence* seq, absl::Time now) {
  SequenceGroup* group = seq->group;
  ReleaseSlot(seq);
  if (std::any_of(group->sequences.begin(), group->sequences.end(),
                  [](const Sequence& each) { return each.has_slot; })) {
    shrunk_.push_back(group->key);
    return;
  }
  RunningSequence left;
  left.arrival = group->arrival;
  waiting_.Interrupt({&left, 1}, WaitReason::kNextStep, now);
  Requeue(group);
}

void EngineCore::DropTokens(const InFlightStep& step) {
  for (Sequence* seq : step.samples) {
    if (seq->num_in_flight > 0) --seq->num_in_flight;
    ++metrics_.counters.num_wasted_tokens;
    if (!seq->finished && !seq->has_slot) SettleWaiting(seq->group);
  }
}

}  // namespace quire
