// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/paged_fcfs.h"

#include <algorithm>

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
    if (decision_.preempted.empty()) Admit();
  }

 private:
  int32_t BlocksFor(int32_t num_tokens) const {
    return (num_tokens + view_.block_size - 1) / view_.block_size;
  }

  // Blocks that `seq` lacks for its next `num_new` tokens.
  int32_t GrowthBlocks(const RunningSequence& seq, int32_t num_new) const {
    const int32_t num_tokens = seq.num_computed_tokens + num_new;
    // The common case, without a division.
    const int32_t num_appended = num_tokens <= seq.num_blocks * view_.block_size
                                     ? 0
                                     : BlocksFor(num_tokens) - seq.num_blocks;
    return num_appended + (seq.shares_last_block ? 1 : 0);
  }

  // First index of the group of which `idx` is the last sequence.
  int32_t GroupBegin(int32_t idx) const {
    while (idx > 0 &&
           view_.running[idx - 1].arrival == view_.running[idx].arrival) {
      --idx;
    }
    return idx;
  }

  // Takes back the last group that is kept. REQUIRES: there is one.
  void PreemptLast() {
    const int32_t begin = GroupBegin(num_kept_ - 1);
    while (num_kept_ > begin) {
      --num_kept_;
      decision_.preempted.push_back(num_kept_);
      num_free_ += view_.running[num_kept_].num_private_blocks;
    }
  }

  void ForcePreemption() {
    for (int32_t idx = num_kept_ - 1; idx >= 0; --idx) {
      const RunningSequence& seq = view_.running[idx];
      if (seq.num_tokens <= seq.num_prefill_tokens) continue;
      // Everyone after it goes too, so that the kept ones stay a prefix.
      const int32_t begin = GroupBegin(idx);
      while (num_kept_ > begin) PreemptLast();
      return;
    }
  }

  void ScheduleDecodes() {
    for (int32_t idx = 0; idx < num_kept_ && budget_ > 0; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (seq.is_prefill() || seq.is_exhausted() || seq.awaits_result) continue;
      const int32_t num_wanted = GrowthBlocks(seq, 1);
      while (num_wanted > num_free_ && idx < num_kept_) PreemptLast();
      if (idx >= num_kept_) break;
      num_free_ -= num_wanted;
      --budget_;
      decision_.slices.push_back({.running_idx = idx, .num_tokens = 1});
    }
    // A group of several whose later sibling had to go goes whole.
    while (!decision_.slices.empty() &&
           decision_.slices.back().running_idx >= num_kept_) {
      const int32_t idx = decision_.slices.back().running_idx;
      num_free_ += GrowthBlocks(view_.running[idx], 1);
      ++budget_;
      decision_.slices.pop_back();
    }
  }

  void ScheduleChunks() {
    for (int32_t idx = 0; idx < num_kept_ && budget_ > 0; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (!seq.is_prefill() || seq.awaits_result) continue;
      const int32_t num_left = seq.num_tokens - seq.num_computed_tokens;
      const int32_t num_tokens = FittingChunk(seq, std::min(num_left, budget_));
      if (num_tokens == 0) continue;
      num_free_ -= GrowthBlocks(seq, num_tokens);
      budget_ -= num_tokens;
      decision_.slices.push_back(
          {.running_idx = idx, .num_tokens = num_tokens});
    }
    // Prompts alone that hold the whole pool between them: the last arrived
    // makes room. Admission counts what they still need, so this takes
    // decodes that have grown in between.
    if (decision_.slices.empty() && num_kept_ > 0 && IsStuck()) PreemptLast();
  }

  // The largest part of `num_tokens` that free blocks can hold.
  int32_t FittingChunk(const RunningSequence& seq, int32_t num_tokens) const {
    if (GrowthBlocks(seq, num_tokens) <= num_free_) return num_tokens;
    const int32_t num_blocks =
        seq.num_blocks + num_free_ - (seq.shares_last_block ? 1 : 0);
    return std::max(0, std::min(num_tokens, num_blocks * view_.block_size -
                                                seq.num_computed_tokens));
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

  // Blocks that running prompts were promised and have not taken.
  int32_t PromisedBlocks() const {
    int32_t num_blocks = 0;
    for (int32_t idx = 0; idx < num_kept_; ++idx) {
      const RunningSequence& seq = view_.running[idx];
      if (!seq.is_prefill()) continue;
      num_blocks +=
          std::max(0, BlocksFor(seq.num_prefill_tokens) - seq.num_blocks);
    }
    return num_blocks;
  }

  void Admit() {
    if (view_.waiting.empty() || budget_ <= 0) return;
    // Chunks scheduled above have taken part of what they were promised.
    int32_t room = view_.num_free_blocks - PromisedBlocks();
    for (const ScheduledSlice& slice : decision_.slices) {
      const RunningSequence& seq = view_.running[slice.running_idx];
      if (!seq.is_prefill()) room -= GrowthBlocks(seq, slice.num_tokens);
    }
    const WaitingGroup& head = view_.waiting[0];
    int32_t num_slots = view_.num_free_slots;
    int32_t num_bypasses = head.num_bypasses;
    bool head_waits = false;
    const int32_t num_waiting = static_cast<int32_t>(view_.waiting.size());
    for (int32_t idx = 0; idx < num_waiting && budget_ > 0; ++idx) {
      const WaitingGroup& group = view_.waiting[idx];
      if (!group.ready || group.num_seqs > num_slots) break;
      const int32_t num_wanted = group.num_wanted_blocks;
      if (num_wanted > room - Watermark()) {
        if (!head_waits && (idx > 0 || group.preempted)) break;
        if (idx >= options_.bypass_window) break;
        head_waits = true;
        continue;
      }
      if (head_waits && num_bypasses >= options_.max_bypasses) break;
      num_bypasses += head_waits;
      room -= num_wanted;
      num_slots -= group.num_seqs;
      const int32_t num_tokens = std::min(group.num_tokens, budget_);
      budget_ -= num_tokens;
      decision_.admissions.push_back(
          {.waiting_idx = idx, .num_tokens = num_tokens});
    }
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
  Pass(view, options_, decision).Run();
}

}  // namespace quire
