// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/run_alone.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "glog/logging.h"

namespace quire {
namespace {

// A waiting group's.
struct Place {
  int32_t tenant_idx = -1;  // -1: there is none
  int32_t waiting_idx = 0;
};

// Of the view's tenants, or of everybody.
absl::Span<const WaitingGroup> WaitingOf(const View& view, int32_t tenant_idx) {
  return view.tenants.empty() ? view.waiting : view.tenants[tenant_idx].waiting;
}

int32_t NumQueues(const View& view) {
  return view.tenants.empty() ? 1 : static_cast<int32_t>(view.tenants.size());
}

// The first by (rank, arrival) that runs alone.
Place FindFirst(const View& view) {
  Place first;
  const WaitingGroup* best = nullptr;
  for (int32_t tenant = 0; tenant < NumQueues(view); ++tenant) {
    const absl::Span<const WaitingGroup> waiting = WaitingOf(view, tenant);
    for (size_t idx = 0; idx < waiting.size(); ++idx) {
      const WaitingGroup& group = waiting[idx];
      if (!group.runs_alone) continue;
      if (best == nullptr || std::tie(group.rank, group.arrival) <
                                 std::tie(best->rank, best->arrival)) {
        best = &group;
        first = {tenant, static_cast<int32_t>(idx)};
      }
      break;  // the others of its queue come later
    }
  }
  return first;
}

// Of `policy` with no group that waits but perhaps one.
void ScheduleOnly(const SchedulingPolicy& policy, const View& view,
                  absl::Span<const WaitingGroup> waiting, Decision* decision) {
  View only = view;
  only.waiting = waiting;
  only.tenants = {};
  only.has_quotas = false;
  policy.Schedule(only, decision);
}

// The group of that place, and nobody beside it.
void ScheduleFirst(const SchedulingPolicy& policy, const View& view,
                   const Place& first, Decision* decision) {
  const WaitingGroup& group =
      WaitingOf(view, first.tenant_idx)[first.waiting_idx];
  ScheduleOnly(policy, view, {&group, 1}, decision);
  for (Admission& admission : decision->admissions) {
    admission.tenant_idx = first.tenant_idx;
    admission.waiting_idx = first.waiting_idx;
  }
  for (Blocked& blocked : decision->blocked) {
    blocked.tenant_idx = first.tenant_idx;
    blocked.waiting_idx = first.waiting_idx;
  }
}

void PreemptAll(const View& view, int64_t for_arrival, Decision* decision) {
  for (int32_t idx = static_cast<int32_t>(view.running.size()) - 1; idx >= 0;
       --idx) {
    decision->preempted.push_back(idx);
    decision->preempted_for.push_back(for_arrival);
  }
}

// Queues whose first one is told why it stays: what a decision explains is
// bounded.
constexpr int32_t kMaxExplained = 16;

// Says of queues' first ones that stay why they do, but for `first`.
void ExplainOthers(const View& view, const Place& first, Decision* decision) {
  const int32_t num_queues = std::min(NumQueues(view), kMaxExplained);
  for (int32_t tenant = 0; tenant < num_queues; ++tenant) {
    const bool is_its_queue = tenant == first.tenant_idx;
    const int32_t idx = is_its_queue && first.waiting_idx == 0 ? 1 : 0;
    if (idx >= static_cast<int32_t>(WaitingOf(view, tenant).size())) continue;
    decision->blocked.push_back({.tenant_idx = tenant,
                                 .waiting_idx = idx,
                                 .why = {.reason = WaitReason::kOtherAlone}});
  }
}

}  // namespace

void ScheduleAlone(const SchedulingPolicy& policy, const View& view,
                   bool results_in_flight, Decision* decision) {
  if (!view.running.empty() &&
      (view.running[0].runs_alone || !policy.preempts())) {
    ScheduleOnly(policy, view, {}, decision);
    ExplainOthers(view, Place(), decision);
    return;
  }
  const Place first = FindFirst(view);
  CHECK_GE(first.tenant_idx, 0) << "nobody runs alone";
  const WaitingGroup& group =
      WaitingOf(view, first.tenant_idx)[first.waiting_idx];
  if (!view.running.empty()) {
    PreemptAll(view, group.arrival, decision);
  } else if (!results_in_flight) {
    ScheduleFirst(policy, view, first, decision);
    ExplainOthers(view, first, decision);
    return;
  }
  decision->blocked.push_back(
      {.tenant_idx = first.tenant_idx,
       .waiting_idx = first.waiting_idx,
       .why = {.reason = WaitReason::kResultsInFlight}});
  ExplainOthers(view, first, decision);
}

}  // namespace quire
