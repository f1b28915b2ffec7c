// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/fair_pass.h"

#include <algorithm>
#include <limits>

#include "coordinator/scheduler/kept_groups.h"
#include "coordinator/scheduler/prompt_shares.h"

namespace quire {
namespace {

// Decodes, and whom they cost their blocks.
void ScheduleDecodes(const View& view, bool is_safe, KeptGroups* kept,
                     Decision* decision) {
  const auto num_running = static_cast<int32_t>(view.running.size());
  for (int32_t idx = 0; idx < num_running && kept->budget() > 0; ++idx) {
    const RunningSequence& seq = view.running[idx];
    if (seq.is_prefill() || seq.is_exhausted() || seq.awaits_result) continue;
    if (!kept->is_kept(idx) || kept->is_safe(idx) != is_safe) continue;
    if (!kept->MakeRoom(idx, is_safe)) continue;
    kept->TakeDecode(idx);
    decision->slices.push_back({.running_idx = idx, .num_tokens = 1});
  }
}

// A group of several of which a later sibling had to go goes whole.
void DropPreempted(KeptGroups* kept, Decision* decision) {
  if (decision->preempted.empty()) return;
  const auto gone =
      std::remove_if(decision->slices.begin(), decision->slices.end(),
                     [&](const ScheduledSlice& slice) {
                       if (kept->is_kept(slice.running_idx)) return false;
                       kept->GiveBackDecode(slice.running_idx);
                       return true;
                     });
  decision->slices.erase(gone, decision->slices.end());
}

void ForcePreemption(const View& view, KeptGroups* kept) {
  for (auto idx = static_cast<int32_t>(view.running.size()) - 1; idx >= 0;
       --idx) {
    const RunningSequence& seq = view.running[idx];
    if (seq.num_tokens <= seq.num_prefill_tokens) continue;
    for (auto last = static_cast<int32_t>(view.running.size()) - 1; last >= idx;
         --last) {
      if (kept->is_kept(last)) kept->Preempt(last, 0);
    }
    return;
  }
}

}  // namespace

void ScheduleFairly(const View& view, const FairPassOptions& options,
                    Decision* decision) {
  KeptGroups kept(view, decision);
  PromptShares prompts(view, options, &kept, decision);
  if (view.force_preemption) ForcePreemption(view, &kept);
  const int32_t reclaimer =
      view.has_quotas && decision->preempted.empty() ? prompts.Reclaim() : -1;
  const size_t num_reclaimed = decision->preempted.size();
  ScheduleDecodes(view, /*is_safe=*/true, &kept, decision);
  if (view.has_quotas) {
    ScheduleDecodes(view, /*is_safe=*/false, &kept, decision);
  }
  DropPreempted(&kept, decision);
  // Who had to make room for a decode is followed by no admission.
  const bool may_admit = reclaimer >= 0
                             ? decision->preempted.size() == num_reclaimed
                             : decision->preempted.empty();
  prompts.Share(reclaimer, may_admit);
  if (decision->slices.empty() && decision->admissions.empty()) {
    kept.PreemptIfStuck();
  }
  prompts.Explain(may_admit);
}

}  // namespace quire
