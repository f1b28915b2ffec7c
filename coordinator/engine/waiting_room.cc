// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/waiting_room.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace quire {
namespace {

int32_t AddPriorities(int64_t a, int64_t b) {
  return static_cast<int32_t>(
      std::clamp<int64_t>(a + b, std::numeric_limits<int32_t>::min(),
                          std::numeric_limits<int32_t>::max()));
}

}  // namespace

WaitingRoom::WaitingRoom(const TenantConfig& tenants,
                         absl::Duration priority_ageing, bool by_tenant)
    : order_(priority_ageing), queues_(tenants, by_tenant) {}

void WaitingRoom::Register(SequenceGroup* group, const std::string& tenant,
                           bool has_workers, absl::Time now) {
  group->tenant_idx = queues_.Enter(tenant, now);
  group->priority = AddPriorities(group->priority,
                                  queues_.limits(group->tenant_idx).priority);
  group->rank = order_.Rank(group->priority, group->arrival_time);
  const int32_t queue_idx = queues_.QueueOf(group->tenant_idx);
  places_[group->arrival] = {
      .tenant_idx = queue_idx,
      .rank = group->rank,
      .num_prompt_tokens = group->sequences.front().num_prompt_tokens};
  timelines_.Begin(
      group->arrival, group->request_id, queue_idx,
      has_workers ? WaitReason::kNextStep : WaitReason::kNoWorkerGroup,
      group->arrival_time);
}

void WaitingRoom::Unregister(const SequenceGroup& group, absl::Time now) {
  timelines_.End(group.arrival, now);
  places_.erase(group.arrival);
  queues_.Leave(group.tenant_idx, now);
}

int32_t WaitingRoom::Depart(const SequenceGroup& group, absl::Time now,
                            Timeline* timeline) {
  const auto place = places_.find(group.arrival);
  const int32_t num_charged_tokens = place->second.num_charged_tokens;
  places_.erase(place);
  queues_.Leave(group.tenant_idx, now);
  *timeline = timelines_.Take(group.arrival, now);
  return num_charged_tokens;
}

void WaitingRoom::Arrive(SequenceGroup* group, Timeline timeline,
                         int32_t num_charged_tokens, bool has_workers,
                         absl::Time now) {
  group->tenant_idx = queues_.Enter(group->tenant, now);
  const int32_t queue_idx = queues_.QueueOf(group->tenant_idx);
  places_[group->arrival] = {
      .tenant_idx = queue_idx,
      .rank = group->rank,
      .num_prompt_tokens = group->sequences.front().num_prompt_tokens,
      .num_charged_tokens = num_charged_tokens};
  timelines_.Resume(
      group->arrival, std::move(timeline), queue_idx,
      has_workers ? WaitReason::kNextStep : WaitReason::kNoWorkerGroup);
}

void WaitingRoom::Insert(const SequenceGroup& group, WaitingGroup waiting) {
  waiting.arrival = group.arrival;
  waiting.rank = group.rank;
  waiting.priority = group.priority;
  waiting.key = group.key;
  queues_.Insert(group.tenant_idx, waiting);
}

void WaitingRoom::Erase(const SequenceGroup& group) {
  queues_.Erase(group.tenant_idx, group.rank, group.arrival);
}

WaitingGroup* WaitingRoom::Find(const SequenceGroup& group) {
  return queues_.Find(group.tenant_idx, group.rank, group.arrival);
}

void WaitingRoom::SetPool(int32_t num_blocks, absl::Time now) {
  queues_.SetPool(num_blocks);
  timelines_.AllWait(WaitReason::kNextStep, now);
}

void WaitingRoom::AllWait(WaitReason reason, absl::Time now) {
  timelines_.AllWait(reason, now);
}

void WaitingRoom::Interrupt(absl::Span<const RunningSequence> running,
                            WaitReason reason, absl::Time now) {
  int64_t last_arrival = 0;
  for (const RunningSequence& seq : running) {
    NoteCharged(seq);
    if (seq.arrival == last_arrival) continue;  // a sibling
    last_arrival = seq.arrival;
    timelines_.Interrupt(seq.arrival, {.reason = reason}, now);
  }
}

void WaitingRoom::NoteCharged(const RunningSequence& seq) {
  int32_t& num_charged = places_.at(seq.arrival).num_charged_tokens;
  num_charged = std::max(num_charged, seq.num_computed_tokens);
}

void WaitingRoom::ChargePrefill(int64_t arrival, int32_t tenant_idx,
                                int32_t num_computed, int32_t num_tokens) {
  const Place& place = places_.at(arrival);
  const int32_t begin =
      std::max(num_computed - num_tokens, place.num_charged_tokens);
  const int32_t num_prompt =
      std::min(num_computed, place.num_prompt_tokens) - begin;
  if (num_prompt > 0) queues_.ChargePrompt(tenant_idx, num_prompt);
  const int32_t num_outputs =
      num_computed - std::max(begin, place.num_prompt_tokens);
  if (num_outputs > 0) queues_.ChargeOutputs(tenant_idx, num_outputs);
}

void WaitingRoom::FillView(absl::Span<const RunningSequence> running,
                           absl::Time now, View* view) {
  view->running = running;
  queues_.FillView(running, order_, now, view);
}

void WaitingRoom::TakeDecision(const View& view, const Decision& decision,
                               absl::Time now) {
  admitted_.clear();
  for (const Admission& admission : decision.admissions) {
    admitted_.push_back(
        queues_.At(admission.tenant_idx, admission.waiting_idx).key);
  }
  queues_.CountBypasses(decision,
                        static_cast<int32_t>(decision.admissions.size()));
  Charge(view, decision);
  if (queues_.size() > 0) Explain(view, decision, now);
}

void WaitingRoom::Charge(const View& view, const Decision& decision) {
  for (const int32_t running_idx : decision.preempted) {
    NoteCharged(view.running[running_idx]);
  }
  for (const ScheduledSlice& slice : decision.slices) {
    const RunningSequence& seq = view.running[slice.running_idx];
    if (!seq.is_prefill()) {
      queues_.ChargeOutputs(seq.tenant_idx, 1);
      continue;
    }
    ChargePrefill(seq.arrival, seq.tenant_idx,
                  seq.num_computed_tokens + slice.num_tokens, slice.num_tokens);
  }
}

void WaitingRoom::Explain(const View& view, const Decision& decision,
                          absl::Time now) {
  std::swap(looked_at_, looked_at_before_);
  looked_at_.clear();
  ++num_decisions_;
  for (const Blocked& blocked : decision.blocked) {
    const WaitingGroup& group =
        queues_.At(blocked.tenant_idx, blocked.waiting_idx);
    timelines_.Waits(group.arrival, blocked.why, now);
    looked_at_.push_back(group.arrival);
    // The first of a tenant's order is what all behind it wait for.
    const int32_t tenant_idx = queues_.TenantOf(blocked.tenant_idx);
    if (tenant_idx >= cause_set_by_.size())
      cause_set_by_.resize(tenant_idx + 1);
    if (cause_set_by_[tenant_idx] == num_decisions_) continue;
    cause_set_by_[tenant_idx] = num_decisions_;
    timelines_.SetBehindCause(tenant_idx, blocked.why.reason, now);
  }
  if (decision.blocked.empty()) ExplainHead(view, decision, now);
  // Those that will have run need no reason.
  for (const Admission& admission : decision.admissions) {
    looked_at_.push_back(
        queues_.At(admission.tenant_idx, admission.waiting_idx).arrival);
  }
  ExplainRest(decision, now);
}

// A policy that explains nothing: what its view says of the first that stays.
void WaitingRoom::ExplainHead(const View& view, const Decision& decision,
                              absl::Time now) {
  const auto num_admitted = decision.admissions.size();
  if (num_admitted >= view.waiting.size()) return;
  const WaitingGroup& group = view.waiting[num_admitted];
  WaitDetail why = {.reason = WaitReason::kNextStep};
  if (!group.ready) {
    why.reason = WaitReason::kResultsInFlight;
  } else if (group.num_seqs > view.num_free_slots) {
    why = {.reason = WaitReason::kNoSlot,
           .num_needed = group.num_seqs,
           .num_available = view.num_free_slots};
  } else if (group.num_wanted_blocks > view.num_free_blocks) {
    why = {.reason = WaitReason::kNeedsBlocks,
           .num_needed = group.num_wanted_blocks,
           .num_available = view.num_free_blocks};
  }
  timelines_.Waits(group.arrival, why, now);
  timelines_.SetBehindCause(queues_.TenantOf(0), why.reason, now);
  looked_at_.push_back(group.arrival);
}

// Newcomers, and those that were looked at and are no more, are behind.
void WaitingRoom::ExplainRest(const Decision& decision, absl::Time now) {
  // Those that go are before nobody.
  const auto count_admitted = [&](int32_t by) {
    for (const Admission& admission : decision.admissions) {
      const size_t tenant_idx = queues_.TenantOf(admission.tenant_idx);
      if (tenant_idx >= num_going_.size()) num_going_.resize(tenant_idx + 1);
      num_going_[tenant_idx] += by;
    }
  };
  count_admitted(1);
  std::vector<int64_t> others = timelines_.TakeUnexplained();
  others.insert(others.end(), looked_at_before_.begin(),
                looked_at_before_.end());
  for (const int64_t arrival : others) {
    if (std::find(looked_at_.begin(), looked_at_.end(), arrival) !=
            looked_at_.end() ||
        !timelines_.is_waiting(arrival) || timelines_.is_behind(arrival)) {
      continue;
    }
    const Place& place = places_.at(arrival);
    const int32_t num_going =
        place.tenant_idx < num_going_.size() ? num_going_[place.tenant_idx] : 0;
    const int32_t num_ahead =
        queues_.Position(place.tenant_idx, place.rank, arrival) - num_going;
    if (num_ahead > 0) {
      timelines_.WaitsBehind(arrival, num_ahead, now);
    } else {
      // The policy looks at a bounded number of tenants.
      timelines_.Waits(arrival, {.reason = WaitReason::kTenantTurn}, now);
    }
  }
  count_admitted(-1);
  timelines_.Recycle(std::move(others));
}

void WaitingRoom::Preempt(const SequenceGroup& group, const Decision& decision,
                          size_t preempted_idx, absl::Time now) {
  WaitDetail why = {.reason = WaitReason::kPreemptedBy};
  if (preempted_idx < decision.preempted_for.size()) {
    why.other_arrival = decision.preempted_for[preempted_idx];
  }
  // It could not grow, and nobody came after it.
  if (why.other_arrival == group.arrival) {
    why = {.reason = WaitReason::kNeedsBlocks, .num_needed = 1};
  }
  timelines_.Interrupt(group.arrival, why, now);
}

void WaitingRoom::Admit(const SequenceGroup& group, int32_t num_computed,
                        int32_t num_tokens, absl::Time now) {
  timelines_.Run(group.arrival, now);
  ChargePrefill(group.arrival, group.tenant_idx, num_computed, num_tokens);
}

void WaitingRoom::FillMetrics(EngineMetrics* metrics) const {
  const std::vector<TenantServed>& served = queues_.served();
  if (metrics->tenants.size() != served.size()) {
    metrics->tenants = served;
  } else {
    // The names are there: nothing to allocate.
    for (size_t idx = 0; idx < served.size(); ++idx) {
      metrics->tenants[idx].num_prompt_tokens = served[idx].num_prompt_tokens;
      metrics->tenants[idx].num_output_tokens = served[idx].num_output_tokens;
    }
  }
  metrics->waited = timelines_.totals();
}

}  // namespace quire
