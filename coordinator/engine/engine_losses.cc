// SPDX-License-Identifier: Apache-2.0
//
// What EngineCore does when its workers are lost, and about requests that end
// the workers who run them. One that was there when two worker groups were lost
// is computed alone until it has gained a token, so that it ends no others with
// it and none of them is taken for the reason in its place
// (coordinator/scheduler/run_alone.h).
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/scheduler/run_alone.h"

namespace quire {
namespace {

// Worker groups that may be lost under a request, whoever else was there.
constexpr int32_t kMaxLostGroups = 8;

}  // namespace

void EngineCore::OnGroupLost(Epoch group_epoch, const absl::Status& cause,
                             absl::Time now) {
  if (!is_ready() || group_epoch != last_step_.group_epoch) return;
  loss_ = cause;
  ++metrics_.counters.num_groups_lost;
  const std::vector<SequenceGroup*> preempted = PreemptedInFlight();
  BlameForLoss(preempted);
  DropInFlight();
  CompactRunning();
  waiting_.Interrupt(running_, WaitReason::kNoWorkerGroup, now);
  std::vector<SequenceGroup*> running;
  for (const RunningSequence& entry : running_) {
    SequenceGroup* group = slots_[entry.slot.value()]->group;
    if (running.empty() || running.back() != group) running.push_back(group);
  }
  BlameForLoss(running);
  for (SequenceGroup* group : running) Requeue(group);
  waiting_.AllWait(WaitReason::kNoWorkerGroup, now);
  running_.clear();
  running_has_gaps_ = false;
  released_.clear();
  forks_.clear();
  next_tokens_.clear();
  late_released_.clear();
  shrunk_.clear();
  unplaced_.clear();
  resync_ = false;
  kv_.reset();
  if (options_.on_group_lost == OnGroupLostAction::kFail) {
    EndAll(absl::UnavailableError(absl::StrCat(
               "worker lost: ", std::string(cause.message()), "; retry")),
           now);
  } else {
    EndGuilty(preempted, now);
    EndGuilty(running, now);
    metrics_.counters.num_requeued += static_cast<int64_t>(groups_.size());
  }
  SweepEnded();
}

// Nothing that was planned will be heard of any more.
void EngineCore::DropInFlight() {
  for (InFlightStep& step : in_flight_) {
    spare_steps_.push_back(std::move(step));
  }
  in_flight_.clear();
  for (const auto& [key, group] : groups_) {
    for (Sequence& seq : group->sequences) {
      seq.num_in_flight = 0;
      seq.parked = false;  // in a pool that is gone
    }
    if (group->state == SequenceGroup::State::kWaiting) {
      SettleWaiting(group.get());
    }
  }
  for (const auto& group : ended_) {
    for (Sequence& seq : group->sequences) seq.num_in_flight = 0;
  }
}

std::vector<SequenceGroup*> EngineCore::PreemptedInFlight() const {
  std::vector<SequenceGroup*> preempted;
  for (const auto& [key, group] : groups_) {
    if (group->state == SequenceGroup::State::kWaiting &&
        group->num_in_flight() > 0) {
      preempted.push_back(group.get());
    }
  }
  std::sort(preempted.begin(), preempted.end(),
            [](const SequenceGroup* a, const SequenceGroup* b) {
              return a->arrival < b->arrival;
            });
  return preempted;
}

void EngineCore::BlameForLoss(absl::Span<SequenceGroup* const> running) {
  for (SequenceGroup* group : running) {
    ++group->num_lost_groups;
    ++group->num_suspicions;
    has_suspects_ |= group->runs_alone();
  }
}

void EngineCore::EndGuilty(absl::Span<SequenceGroup* const> blamed,
                           absl::Time now) {
  for (SequenceGroup* group : blamed) {
    // Three: two in company, and one alone.
    const bool was_alone = group->num_suspicions > kLossesInCompany;
    if (!was_alone && group->num_lost_groups < kMaxLostGroups) continue;
    EndGroup(group, FinishReason::kNone,
             absl::InternalError(absl::StrCat(
                 group->num_lost_groups,
                 " worker groups were lost while they ran this request",
                 was_alone ? ", the last one while it ran nothing else" : "",
                 "; it is not tried on another")),
             now);
  }
}

void EngineCore::Schedule(const View& view) {
  if (has_suspects_) {
    has_suspects_ = std::any_of(
        groups_.begin(), groups_.end(),
        [](const auto& entry) { return entry.second->runs_alone(); });
  }
  if (has_suspects_) {
    ScheduleAlone(*policy_, view, /*results_in_flight=*/!in_flight_.empty(),
                  &decision_);
  } else {
    policy_->Schedule(view, &decision_);
  }
}

void EngineCore::ClearSuspects(const InFlightStep& step) {
  if (!has_suspects_) return;
  for (const Sequence* seq : step.samples) {
    SequenceGroup* group = seq->group;
    if (!group->runs_alone()) continue;
    // At the next loss it is computed alone again, at once.
    group->num_suspicions = kLossesInCompany - 1;
    if (group->state == SequenceGroup::State::kWaiting) SettleWaiting(group);
    if (group->state != SequenceGroup::State::kRunning) continue;
    const auto [begin, end] = GroupRange(*group);
    for (size_t idx = begin; idx < end; ++idx) running_[idx].runs_alone = false;
  }
}

}  // namespace quire
