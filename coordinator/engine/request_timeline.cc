// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/request_timeline.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace quire {
namespace {

absl::Duration& At(WaitTotals* totals, WaitReason reason) {
  return (*totals)[static_cast<size_t>(reason)];
}

}  // namespace

void RequestTimelines::Begin(int64_t arrival, const std::string& request_id,
                             int32_t tenant_idx, WaitReason reason,
                             absl::Time now) {
  Life& life = live_[arrival];
  life.timeline.request_id = request_id;
  life.timeline.arrival = now;
  life.tenant_idx = tenant_idx;
  arrivals_[request_id] = arrival;
  Open(&life, {.reason = reason}, now);
  unexplained_.push_back(arrival);
}

void RequestTimelines::Open(Life* life, const WaitDetail& why, absl::Time now) {
  Timeline& timeline = life->timeline;
  if (timeline.intervals.size() >= kMaxWaitIntervals) {
    const WaitInterval& first = timeline.intervals.front();
    timeline.unlisted += first.to - first.from;
    timeline.intervals.erase(timeline.intervals.begin());
  }
  timeline.state = TimelineState::kWaiting;
  timeline.intervals.push_back({.from = now,
                                .to = absl::InfiniteFuture(),
                                .why = why,
                                .other = why.other_arrival == life->preemptor
                                             ? life->preemptor_id
                                             : IdOf(why.other_arrival)});
  life->is_waiting = true;
  if (why.reason == WaitReason::kBehind) {
    life->behind_since = BehindTotals(life->tenant_idx, now);
  }
}

void RequestTimelines::Close(Life* life, absl::Time now) {
  Timeline& timeline = life->timeline;
  WaitInterval& last = timeline.intervals.back();
  // Clocks of callers may differ by the time that a message took.
  last.to = std::max(now, last.from);
  const absl::Duration length = last.to - last.from;
  At(&timeline.totals, last.why.reason) += length;
  At(&totals_, last.why.reason) += length;
  if (last.why.reason == WaitReason::kBehind) {
    FillBehind(*life, last.to, &timeline);
  }
  // A reason that held for no time explains nothing.
  if (length == absl::ZeroDuration()) timeline.intervals.pop_back();
  life->is_waiting = false;
}

void RequestTimelines::FillBehind(const Life& life, absl::Time now,
                                  Timeline* timeline) const {
  const WaitTotals totals = BehindTotals(life.tenant_idx, now);
  for (size_t reason = 0; reason < totals.size(); ++reason) {
    timeline->behind_causes[reason] +=
        totals[reason] - life.behind_since[reason];
  }
}

WaitTotals RequestTimelines::BehindTotals(int32_t tenant_idx,
                                          absl::Time now) const {
  if (tenant_idx >= behind_.size()) {
    // Nobody has said anything yet: all time so far is kNextStep's.
    WaitTotals totals = {};
    At(&totals, WaitReason::kNextStep) = now - absl::UnixEpoch();
    return totals;
  }
  const BehindClock& clock = behind_[tenant_idx];
  WaitTotals totals = clock.totals;
  At(&totals, clock.cause) += now - clock.since;
  return totals;
}

void RequestTimelines::SetBehindCause(int32_t tenant_idx, WaitReason cause,
                                      absl::Time now) {
  while (tenant_idx >= behind_.size()) {
    behind_.push_back({.since = absl::UnixEpoch()});
  }
  BehindClock& clock = behind_[tenant_idx];
  if (clock.cause == cause) return;
  At(&clock.totals, clock.cause) += now - clock.since;
  clock.since = now;
  clock.cause = cause;
}

void RequestTimelines::Interrupt(int64_t arrival, const WaitDetail& why,
                                 absl::Time now) {
  Life& life = live_.at(arrival);
  CHECK(!life.is_waiting);
  ++life.timeline.num_preemptions;
  if (why.reason == WaitReason::kPreemptedBy) {
    life.preemptor = why.other_arrival;
    life.preemptor_id = IdOf(why.other_arrival);
  }
  Open(&life, why, now);
  unexplained_.push_back(arrival);
}

void RequestTimelines::Waits(int64_t arrival, const WaitDetail& reason,
                             absl::Time now) {
  Life& life = live_.at(arrival);
  CHECK(life.is_waiting);
  WaitDetail why = reason;
  // Who took its blocks is the reason that there are none.
  if (life.preemptor != 0 && why.reason == WaitReason::kNeedsBlocks) {
    why.reason = WaitReason::kPreemptedBy;
    why.other_arrival = life.preemptor;
  }
  const WaitDetail& last = life.timeline.intervals.back().why;
  if (last.reason == why.reason && last.other_arrival == why.other_arrival) {
    return;
  }
  Close(&life, now);
  Open(&life, why, now);
}

void RequestTimelines::WaitsBehind(int64_t arrival, int32_t num_ahead,
                                   absl::Time now) {
  Waits(arrival, {.reason = WaitReason::kBehind, .num_needed = num_ahead}, now);
}

void RequestTimelines::Run(int64_t arrival, absl::Time now) {
  Life& life = live_.at(arrival);
  CHECK(life.is_waiting);
  Close(&life, now);
  life.timeline.state = TimelineState::kRunning;
  life.preemptor = 0;
  life.preemptor_id.clear();
}

void RequestTimelines::End(int64_t arrival, absl::Time now) {
  const auto it = live_.find(arrival);
  CHECK(it != live_.end());
  Life& life = it->second;
  if (life.is_waiting) Close(&life, now);
  life.timeline.state = TimelineState::kEnded;
  life.timeline.end = now;
  const auto id = arrivals_.find(life.timeline.request_id);
  if (id != arrivals_.end() && id->second == arrival) arrivals_.erase(id);
  life.timeline.intervals.shrink_to_fit();
  ended_.push_back(std::move(life.timeline));
  if (ended_.size() > kMaxEndedTimelines) ended_.pop_front();
  live_.erase(it);
}

Timeline RequestTimelines::Take(int64_t arrival, absl::Time now) {
  const auto it = live_.find(arrival);
  CHECK(it != live_.end() && it->second.is_waiting);
  Life& life = it->second;
  Close(&life, now);
  Timeline timeline = std::move(life.timeline);
  timeline.end = now;
  arrivals_.erase(timeline.request_id);
  live_.erase(it);
  return timeline;
}

void RequestTimelines::Resume(int64_t arrival, Timeline timeline,
                              int32_t tenant_idx, WaitReason reason) {
  Life& life = live_[arrival];
  life.timeline = std::move(timeline);
  life.tenant_idx = tenant_idx;
  arrivals_[life.timeline.request_id] = arrival;
  Open(&life, {.reason = reason}, life.timeline.end);
  unexplained_.push_back(arrival);
}

void RequestTimelines::AllWait(WaitReason reason, absl::Time now) {
  unexplained_.clear();
  for (auto& [arrival, life] : live_) {
    if (!life.is_waiting) continue;
    unexplained_.push_back(arrival);
    if (life.timeline.intervals.back().why.reason == reason) continue;
    Close(&life, now);
    Open(&life, {.reason = reason}, now);
  }
  // Which order a hash table has must not show.
  std::sort(unexplained_.begin(), unexplained_.end());
}

bool RequestTimelines::is_waiting(int64_t arrival) const {
  const auto it = live_.find(arrival);
  return it != live_.end() && it->second.is_waiting;
}

bool RequestTimelines::is_behind(int64_t arrival) const {
  const auto it = live_.find(arrival);
  return it != live_.end() && it->second.is_waiting &&
         it->second.timeline.intervals.back().why.reason == WaitReason::kBehind;
}

void RequestTimelines::Recycle(std::vector<int64_t> taken) {
  if (!unexplained_.empty()) return;
  taken.clear();
  unexplained_.swap(taken);
}

std::string RequestTimelines::IdOf(int64_t arrival) const {
  const auto it = live_.find(arrival);
  return it == live_.end() ? "" : it->second.timeline.request_id;
}

absl::StatusOr<Timeline> RequestTimelines::Find(const std::string& request_id,
                                                absl::Time now) const {
  const auto it = arrivals_.find(request_id);
  if (it != arrivals_.end()) {
    const Life& life = live_.at(it->second);
    Timeline timeline = life.timeline;
    timeline.end = now;
    if (life.is_waiting) {
      WaitInterval& last = timeline.intervals.back();
      last.to = timeline.end = std::max(now, last.from);
      At(&timeline.totals, last.why.reason) += last.to - last.from;
      if (last.why.reason == WaitReason::kBehind) {
        FillBehind(life, last.to, &timeline);
      }
    }
    return timeline;
  }
  const auto ended = std::find_if(ended_.rbegin(), ended_.rend(),
                                  [&](const Timeline& timeline) {
                                    return timeline.request_id == request_id;
                                  });
  if (ended != ended_.rend()) return *ended;
  return absl::NotFoundError(absl::StrCat(
      "request ", request_id, " neither runs nor is among the last ",
      kMaxEndedTimelines, " that ended"));
}

}  // namespace quire
