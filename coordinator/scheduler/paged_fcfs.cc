// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/paged_fcfs.h"

#include <algorithm>

#include "coordinator/scheduler/block_arithmetic.h"
#include "coordinator/scheduler/fair_pass.h"
#include "coordinator/scheduler/round_tokens.h"

namespace quire {
namespace {

// One call's counters.
class Pass {
 public:
  Pass(const View& view, const PagedFcfsOptions& options, Decision* decision)
      : view_(view),
        options_(options),
        decision_(*decision),
        num_kept_(static_cast<int32_t>(view.running.size())),
        num_free_(view.num_free_blocks),
        budget_(view.max_num_batched_tokens) {}

  void Run() {
    if (view_.force_preemption) ForcePreemption();
    ScheduleDecodes();
    ScheduleChunks();
    if (view_.waiting.empty()) return;
    if (decision_.preempted.empty()) {
      Admit();
    } else if (!view_.waiting[0].ready) {
      Block(0, {.reason = WaitReason::kResultsInFlight});
    } else {
      Block(0, {.reason = WaitReason::kNeedsBlocks,
                .num_needed = view_.waiting[0].num_wanted_blocks,
                .num_available = 0});
    }
  }

 private:
  int32_t Growth(const RunningSequence& seq, int32_t num_new) const {
    return GrowthBlocks(seq, num_new, view_.block_size);
  }

  // First index of the group of which `idx` is the last sequence.
  int32_t GroupBegin(int32_t idx) const {
    while (idx > 0 &&
           view_.running[idx - 1].arrival == view_.running[idx].arrival) {
      --idx;
    }
    return idx;
  }

  // Takes back the last group that is kept, for the group of that arrival.
  // REQUIRES: there is one.
  void PreemptLast(int64_t for_arrival) {
    const int32_t begin = GroupBegin(num_kept_ - 1);
    while (num_kept_ > begin) {
      --num_kept_;
      decision_.preempted.push_back(num_kept_);
      decision_.preempted_for.push_back(for_arrival);
      num_free_ += view_.running[num_kept_].num_private_blocks;
    }
  }

  void ForcePreemption() {
    for (int32_t idx = num_kept_ - 1; idx >= 0; --idx) {
      const RunningSequence& seq = view_.running[idx];
      if (seq.num_tokens <= seq.num_prefill_tokens) continue;
      // Everyone after it goes too, so that the kept ones stay a prefix.
      const int32_t begin = GroupBegin(idx);
      while (num_kept_ > begin) PreemptLast(0);
      return;
    }
  }

  void ScheduleDecodes() {
    for (int32_t idx = 0; idx < num_kept_ && budget_ > 0; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (seq.is_prefill() || seq.is_exhausted() || seq.awaits_result) continue;
      const int32_t num_wanted = Growth(seq, 1);
      while (num_wanted > num_free_ && idx < num_kept_) {
        PreemptLast(seq.arrival);
      }
      if (idx >= num_kept_) break;
      num_free_ -= num_wanted;
      --budget_;
      decision_.slices.push_back({.running_idx = idx, .num_tokens = 1});
    }
    // A group of several whose later sibling had to go goes whole.
    while (!decision_.slices.empty() &&
           decision_.slices.back().running_idx >= num_kept_) {
      const int32_t idx = decision_.slices.back().running_idx;
      num_free_ += Growth(view_.running[idx], 1);
      ++budget_;
      decision_.slices.pop_back();
    }
  }

  void ScheduleChunks() {
    for (int32_t idx = 0; idx < num_kept_ && budget_ > 0; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (!seq.is_prefill() || seq.awaits_result) continue;
      const int32_t num_left = seq.num_tokens - seq.num_computed_tokens;
      const int32_t num_tokens = FittingTokens(seq, std::min(num_left, budget_),
                                               num_free_, view_.block_size);
      if (num_tokens == 0) continue;
      num_free_ -= Growth(seq, num_tokens);
      budget_ -= num_tokens;
      decision_.slices.push_back(
          {.running_idx = idx, .num_tokens = num_tokens});
    }
    // Prompts alone that hold the whole pool between them: the last arrived
    // makes room. Admission counts what they still need, so this takes
    // decodes that have grown in between.
    if (decision_.slices.empty() && num_kept_ > 0 && IsStuck()) {
      PreemptLast(view_.running[0].arrival);
    }
  }

  // Whether a prompt waits for blocks that no result in flight will free.
  bool IsStuck() const {
    bool wants_blocks = false;
    for (int32_t idx = 0; idx < num_kept_; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (seq.is_exhausted() || seq.awaits_result) return false;
      wants_blocks |= seq.is_prefill();
    }
    return wants_blocks;
  }

  // Blocks that an admission may take: chunks scheduled above have taken part
  // of what they were promised.
  int32_t Room() const {
    int32_t room = view_.num_free_blocks;
    for (int32_t idx = 0; idx < num_kept_; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (seq.is_prefill()) room -= PromisedBlocks(seq, view_);
    }
    for (const ScheduledSlice& slice : decision_.slices) {
      const RunningSequence& seq = view_.running[slice.running_idx];
      if (!seq.is_prefill()) room -= Growth(seq, slice.num_tokens);
    }
    return room;
  }

  void Block(int32_t waiting_idx, const WaitDetail& why) {
    decision_.blocked.push_back({.waiting_idx = waiting_idx, .why = why});
  }

  void Admit() {
    const WaitingGroup& head = view_.waiting[0];
    int32_t room = budget_ > 0 ? Room() : 0;
    int32_t num_slots = view_.num_free_slots;
    int32_t num_bypasses = head.num_bypasses;
    bool head_waits = false;
    const int32_t num_waiting = static_cast<int32_t>(view_.waiting.size());
    for (int32_t idx = 0; idx < num_waiting; ++idx) {
      const WaitingGroup& group = view_.waiting[idx];
      const int32_t num_wanted = group.num_wanted_blocks;
      const WaitDetail why = Obstacle(group, num_slots, room - Watermark());
      if (why.reason == WaitReason::kNeedsBlocks) {
        Block(idx, why);
        if (!head_waits && (idx > 0 || group.preempted)) break;
        if (idx >= options_.bypass_window) break;
        head_waits = true;
        continue;
      }
      if (why.reason != WaitReason::kNextStep) {
        Block(idx, why);
        break;
      }
      if (head_waits && num_bypasses >= options_.max_bypasses) {
        Block(idx, {.reason = WaitReason::kHeadReserved,
                    .num_needed = head.num_wanted_blocks,
                    .other_arrival = head.arrival});
        break;
      }
      num_bypasses += head_waits;
      room -= num_wanted;
      num_slots -= group.num_seqs;
      const int32_t num_tokens = std::min(group.num_tokens, budget_);
      budget_ -= num_tokens;
      decision_.admissions.push_back(
          {.waiting_idx = idx, .num_tokens = num_tokens});
    }
  }

  // What keeps the group out; kNextStep: nothing.
  WaitDetail Obstacle(const WaitingGroup& group, int32_t num_slots,
                      int32_t room) const {
    if (!group.ready) return {.reason = WaitReason::kResultsInFlight};
    if (budget_ <= 0) {
      return {.reason = WaitReason::kTokenBudget,
              .num_needed = group.num_tokens};
    }
    if (group.num_seqs > num_slots) {
      return {.reason = WaitReason::kNoSlot,
              .num_needed = group.num_seqs,
              .num_available = num_slots};
    }
    if (group.num_wanted_blocks > room) {
      return {.reason = WaitReason::kNeedsBlocks,
              .num_needed = group.num_wanted_blocks,
              .num_available = std::max(0, room)};
    }
    return {.reason = WaitReason::kNextStep};
  }

  // A group that comes in alone may have everything.
  int32_t Watermark() const {
    return num_kept_ == 0 && decision_.admissions.empty()
               ? 0
               : view_.watermark_blocks;
  }

  const View& view_;
  const PagedFcfsOptions& options_;
  Decision& decision_;
  int32_t num_kept_;  // running[0, num_kept_) is not preempted
  int32_t num_free_;
  int32_t budget_;
};

}  // namespace

PagedFcfs::PagedFcfs(const PagedFcfsOptions& options) : options_(options) {}

void PagedFcfs::Schedule(const View& view, Decision* decision) const {
  if (view.tenants.empty()) {
    Pass(view, options_, decision).Run();
  } else {
    ScheduleFairly(view,
                   {.max_bypasses = options_.max_bypasses,
                    .bypass_window = options_.bypass_window},
                   decision);
  }
  RoundTokens(view, decision);
}

}  // namespace quire
