// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/reserved_pass.h"

#include <algorithm>

namespace quire {

void ReservedPass::ScheduleDecodes() {
  const auto num_running = static_cast<int32_t>(view_.running.size());
  for (int32_t idx = 0; idx < num_running && budget_ > 0; ++idx) {
    const RunningSequence& seq = view_.running[idx];
    if (seq.is_prefill() || seq.is_exhausted() || seq.awaits_result) continue;
    --budget_;
    decision_.slices.push_back({.running_idx = idx, .num_tokens = 1});
  }
}

void ReservedPass::ScheduleChunks() {
  const auto num_running = static_cast<int32_t>(view_.running.size());
  for (int32_t idx = 0; idx < num_running && budget_ > 0; ++idx) {
    const RunningSequence& seq = view_.running[idx];
    if (!seq.is_prefill() || seq.awaits_result) continue;
    const int32_t num_tokens =
        std::min(seq.num_tokens - seq.num_computed_tokens, budget_);
    budget_ -= num_tokens;
    decision_.slices.push_back({.running_idx = idx, .num_tokens = num_tokens});
  }
}

void ReservedPass::Admit() {
  const auto is_chunk = [this](const ScheduledSlice& slice) {
    return view_.running[slice.running_idx].is_prefill();
  };
  bool is_first =
      std::none_of(decision_.slices.begin(), decision_.slices.end(), is_chunk);
  int32_t room = view_.num_free_blocks;
  int32_t num_slots = view_.num_free_slots;
  const auto num_waiting = static_cast<int32_t>(view_.waiting.size());
  for (int32_t idx = 0; idx < num_waiting && budget_ > 0; ++idx) {
    const WaitingGroup& group = view_.waiting[idx];
    if (!group.ready || group.num_seqs > num_slots ||
        group.num_wanted_blocks > room ||
        (group.num_tokens > budget_ && !is_first)) {
      return;
    }
    is_first = false;
    num_slots -= group.num_seqs;
    room -= group.num_wanted_blocks;
    const int32_t num_tokens = std::min(group.num_tokens, budget_);
    budget_ -= num_tokens;
    decision_.admissions.push_back(
        {.waiting_idx = idx, .num_tokens = num_tokens});
  }
}

}  // namespace quire
