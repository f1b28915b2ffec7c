// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/executor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "glog/logging.h"
#include "worker/sampler/plain_row.h"

namespace quire {

absl::StatusOr<const float*> Executor::Enqueue(const BatchInput& batch,
                                               bool chooses) {
  QUIRE_ASSIGN_OR_RETURN(const float* logits,
                         parts_.model->Forward(batch, kv_->view()));
  if (chooses && batch.num_samples > 0) {
    QUIRE_RETURN_IF_ERROR(EnqueueChoice(logits, batch));
  }
  return logits;
}

absl::Status Executor::EnqueueChoice(const float* logits,
                                     const BatchInput& batch) {
  const ChooseTokensParams choose = {
      .logits = logits,
      .rows = batch.choices,
      .tokens = device_tokens_->as<int32_t>(),
      .by_slot = builder_->sampled_by_slot(),
      .num_vocab = parts_.model->vocab_shard().num_ids,
      .num_rows = batch.num_samples};
  return group_choice_ == nullptr ? parts_.backend->ChooseTokens(choose)
                                  : group_choice_->Enqueue(choose);
}

absl::StatusOr<const float*> Executor::EnqueueSlices(const StepPlan& plan,
                                                     bool chooses) {
  const StepSize size = recordings_ != nullptr && !ScoresPrompts(plan)
                            ? recordings_->SizeFor(plan)
                            : StepSize();
  QUIRE_ASSIGN_OR_RETURN(const BatchInput batch,
                         builder_->Build(plan, slots_.get(), size));
  prompt_rows_ = batch.prompt_rows;
  QUIRE_RETURN_IF_ERROR(parts_.backend->MarkBegin(next_mark_));
  return size.num_tokens > 0 ? recordings_->Replay(size)
                             : Enqueue(batch, chooses);
}

absl::Status Executor::ScorePrompts(std::vector<PromptLogprobs>* out) {
  const int32_t max_rows = parts_.limits.max_num_seqs;
  std::vector<ScoredToken> tokens;
  std::vector<SampledLogprobs> scores;
  for (const PromptRun& run : builder_->prompt_runs()) {
    const Slot& slot = slots_->slot(run.slot);
    for (int32_t i = 0; i < run.num_tokens; ++i) {
      tokens.push_back({slot.tokens[run.first_token + i],
                        slot.sampling.num_prompt_logprobs});
    }
  }
  const absl::Span<const ScoredToken> all = tokens;
  for (size_t begin = 0; begin < all.size(); begin += max_rows) {
    const absl::Span<const ScoredToken> piece = all.subspan(begin, max_rows);
    QUIRE_ASSIGN_OR_RETURN(
        const float* logits,
        parts_.model->Logits(prompt_rows_ + begin,
                             static_cast<int32_t>(piece.size())));
    QUIRE_RETURN_IF_ERROR(scorer_->Score(logits, piece, &scores));
  }
  auto next = scores.begin();
  for (const PromptRun& run : builder_->prompt_runs()) {
    PromptLogprobs& prompt = out->emplace_back();
    prompt.sequence_id = slots_->slot(run.slot).sequence_id;
    prompt.first_token = run.first_token;
    for (int32_t i = 0; i < run.num_tokens; ++i) {
      next->sample_idx = i;
      prompt.tokens.push_back(std::move(*next++));
    }
  }
  return absl::OkStatus();
}

bool Executor::IsChosenOnDevice(const SlotSampling& sampling) const {
  if (chooser_ != nullptr) return DeviceChooser::CanChoose(sampling);
  return MayChooseOnDevice() && sampling.num_logprobs < 0 &&
         IsAlwaysPlain(sampling);
}

bool Executor::ScoresPrompts(const StepPlan& plan) const {
  const auto scores = [this](const Slice& slice) {
    if (!slots_->CheckAlive(slice.slot).ok()) return false;
    const Slot& slot = slots_->slot(slice.slot);
    return slot.sampling.num_prompt_logprobs >= 0 &&
           slot.num_computed + 1 < slot.num_prompt;
  };
  return std::any_of(plan.chunks.begin(), plan.chunks.end(), scores);
}

bool Executor::IsChosenOnDevice(const StepPlan& plan) const {
  const auto is_chosen = [this](SlotId slot) {
    return !slots_->CheckAlive(slot).ok() ||
           IsChosenOnDevice(slots_->slot(slot).sampling);
  };
  return std::all_of(plan.decodes.begin(), plan.decodes.end(), is_chosen) &&
         std::all_of(plan.chunks.begin(), plan.chunks.end(),
                     [&](const Slice& s) { return is_chosen(s.slot); }) &&
         !ScoresPrompts(plan) &&
         std::all_of(plan.admitted.begin(), plan.admitted.end(),
                     [&](const AdmittedSlot& admitted) {
                       return IsChosenOnDevice(admitted.sampling) &&
                              admitted.sampling.num_prompt_logprobs < 0;
                     });
}

bool Executor::MayBegin(const StepPlan& plan) const {
  if (flights_.empty()) return true;
  // What moves or takes memory may not touch what a running step reads, and
  // what copies or replaces tokens must know them.
  return num_begun() < kMaxFlights && !plan.resync && plan.forks.empty() &&
         plan.next_tokens.empty() && kv_->MayPrepareAhead(plan) &&
         IsChosenOnDevice(plan);
}

absl::Status Executor::Begin(const StepPlan& plan) {
  CHECK(has_kv());
  CHECK(MayBegin(plan));
  QUIRE_RETURN_IF_ERROR(slots_->Apply(plan));
  QUIRE_RETURN_IF_ERROR(kv_->Prepare(plan, *slots_));
  Flight flight;
  if (!landed_.empty()) {
    flight = std::move(landed_.back());
    landed_.pop_back();
  }
  flight.identity = plan.identity;
  flight.table_digest = slots_->table_digest();
  flight.mark = next_mark_;
  flight.has_begun_mark =
      has_marks_ && !(plan.decodes.empty() && plan.chunks.empty());
  flight.unknown.clear();
  flight.sampled.tokens.clear();
  flight.sampled.logprobs.clear();
  flight.prompt_logprobs.clear();
  if (!plan.decodes.empty() || !plan.chunks.empty()) {
    const bool is_chosen_on_device = IsChosenOnDevice(plan);
    QUIRE_ASSIGN_OR_RETURN(const float* logits,
                           EnqueueSlices(plan, is_chosen_on_device));
    const auto sampled_slots = builder_->sampled_slots();
    if (is_chosen_on_device) {
      QUIRE_RETURN_IF_ERROR(EnqueueResults(logits, flight));
      slots_->Advance(plan, &flight.unknown);
    } else {
      QUIRE_RETURN_IF_ERROR(
          sampler_->Sample(logits, sampled_slots, *slots_, &flight.sampled));
      if (!builder_->prompt_runs().empty()) {
        QUIRE_RETURN_IF_ERROR(ScorePrompts(&flight.prompt_logprobs));
      }
      if (seen_counts_ != nullptr) seen_counts_->Forget(sampled_slots);
      slots_->Commit(plan, flight.sampled.tokens);
    }
  }
  QUIRE_RETURN_IF_ERROR(parts_.backend->Mark(flight.mark));
  next_mark_ = (next_mark_ + 1) % Backend::kNumMarks;
  has_marks_ = true;
  flights_.push_back(std::move(flight));
  return absl::OkStatus();
}

absl::Status Executor::EnqueueGroupChoices(float* logits, int32_t flight) {
  const absl::Span<const SlotId> slots = builder_->sampled_slots();
  int32_t* const tokens = device_tokens_->as<int32_t>();
  int32_t* const by_slot = builder_->sampled_by_slot();
  QUIRE_RETURN_IF_ERROR(
      shard_edits_->Enqueue(logits, slots, *slots_, flight, tokens, by_slot));
  QUIRE_RETURN_IF_ERROR(
      listed_choice_->Enqueue(logits, slots, *slots_, flight, tokens, by_slot));
  QUIRE_RETURN_IF_ERROR(nucleus_choice_->Enqueue(logits, slots, *slots_, flight,
                                                 tokens, by_slot));
  QUIRE_RETURN_IF_ERROR(shard_edits_->Finish());
  QUIRE_RETURN_IF_ERROR(whole_rows_->Gather(logits, slots, *slots_, *chooser_));
  QUIRE_RETURN_IF_ERROR(chooser_->Enqueue(whole_rows_->rows(), slots, *slots_,
                                          flight, tokens, by_slot));
  return group_logprobs_->Enqueue(logits, slots, *slots_, flight, tokens);
}

absl::Status Executor::EnqueueResults(const float* logits,
                                      const Flight& flight) {
  const absl::Span<const SlotId> slots = builder_->sampled_slots();
  const int32_t idx = flight.mark % kMaxFlights;
  int32_t* const tokens = device_tokens_->as<int32_t>();
  if (chooser_ != nullptr) {
    QUIRE_RETURN_IF_ERROR(seen_counts_->Send(slots, *slots_, idx));
    // The model's own buffer, which its next step writes anew.
    float* rows = const_cast<float*>(logits);
    QUIRE_RETURN_IF_ERROR(whole_rows_ != nullptr
                              ? EnqueueGroupChoices(rows, idx)
                              : chooser_->Enqueue(rows, slots, *slots_, idx,
                                                  tokens,
                                                  builder_->sampled_by_slot()));
  }
  return parts_.backend->CopyRuns({.runs = all_tokens_->as<WordRun>(),
                                   .values = tokens,
                                   .out = host_tokens_[idx]->as<int32_t>(),
                                   .num_runs = 1});
}

std::function<absl::Status()> Executor::Waiter() const {
  CHECK(!flights_.empty());
  return [backend = parts_.backend.get(), mark = flights_.back().mark] {
    return backend->WaitForMark(mark);
  };
}

absl::Status Executor::ReadTokens(Flight* flight) {
  const int32_t* tokens =
      host_tokens_[flight->mark % kMaxFlights]->as<int32_t>();
  for (size_t i = 0; i < flight->unknown.size(); ++i) {
    if (tokens[i] < 0) {
      return absl::InternalError(absl::StrCat("slot ", flight->unknown[i].slot,
                                              ": ", ExplainChoice(tokens[i])));
    }
    flight->sampled.tokens.push_back(tokens[i]);
  }
  slots_->Fill(flight->unknown, flight->sampled.tokens);
  const int32_t idx = flight->mark % kMaxFlights;
  if (group_logprobs_ != nullptr) {
    group_logprobs_->Read(idx, &flight->sampled.logprobs);
  } else if (chooser_ != nullptr) {
    chooser_->ReadLogprobs(idx, &flight->sampled.logprobs);
  }
  return absl::OkStatus();
}

void Executor::NoteIdleness(int32_t mark) {
  const int32_t before = (mark + Backend::kNumMarks - 1) % Backend::kNumMarks;
  const double seconds = parts_.backend->IdleSeconds(before, mark);
  if (seconds > 0 && idle_times_.Add(seconds)) {
    LOG(INFO) << "device " << idle_times_.ToString();
  }
}

Executor::~Executor() {
  if (idle_times_.count() > 0) {
    LOG(INFO) << "device " << idle_times_.ToString();
  }
}

absl::Status Executor::Finish(StepResult* result) {
  CHECK(!flights_.empty());
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  QUIRE_RETURN_IF_ERROR(parts_.backend->WaitForMark(flight.mark));
  if (flight.has_begun_mark && is_asynchronous()) NoteIdleness(flight.mark);
  // Of a group that is over, the device's work ends and means nothing.
  QUIRE_RETURN_IF_ERROR(parts_.collective->status());
  // Also what ends with the device's idleness, as of times.
  if (flights_.empty()) QUIRE_RETURN_IF_ERROR(parts_.backend->Synchronize());
  if (!flight.unknown.empty()) QUIRE_RETURN_IF_ERROR(ReadTokens(&flight));
  result->identity = flight.identity;
  result->token_digest = TokenDigest(flight.sampled.tokens);
  result->table_digest = flight.table_digest;
  result->tokens.clear();
  result->logprobs.clear();
  result->prompt_logprobs.clear();
  if (parts_.collective->rank() == 0) {
    result->tokens = flight.sampled.tokens;
    result->logprobs.swap(flight.sampled.logprobs);
    result->prompt_logprobs.swap(flight.prompt_logprobs);
  }
  landed_.push_back(std::move(flight));
  return absl::OkStatus();
}

absl::Status Executor::Step(const StepPlan& plan, StepResult* result) {
  QUIRE_RETURN_IF_ERROR(Begin(plan));
  return Finish(result);
}

}  // namespace quire
