// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/kept_groups.h"

#include <algorithm>

#include "coordinator/scheduler/block_arithmetic.h"
#include "coordinator/scheduler/fair_pass.h"

namespace quire {

KeptGroups::KeptGroups(const View& view, Decision* decision)
    : view_(view),
      decision_(*decision),
      kept_(decision->scratch.flags),
      held_(decision->scratch.held),
      num_kept_(static_cast<int32_t>(view.running.size())),
      num_free_(view.num_free_blocks),
      budget_(view.max_num_batched_tokens) {
  kept_.assign(view.running.size(), 1);
  held_.clear();
  for (const TenantView& tenant : view.tenants) {
    held_.push_back(tenant.num_held_blocks);
  }
}

bool KeptGroups::is_safe(int32_t idx) const {
  if (!view_.has_quotas) return true;
  const RunningSequence& seq = view_.running[idx];
  const TenantView& tenant = view_.tenants[seq.tenant_idx];
  // By what it held before the step, so that the answer stays the same in it.
  return tenant.num_held_blocks <= tenant.num_guaranteed_blocks ||
         seq.num_group_preemptions >= kMaxReclaims;
}

int32_t KeptGroups::Growth(int32_t idx) const {
  return GrowthBlocks(view_.running[idx], 1, view_.block_size);
}

template <typename Wanted>
int32_t KeptGroups::LastKept(Wanted wanted) const {
  for (auto idx = static_cast<int32_t>(kept_.size()) - 1; idx >= 0; --idx) {
    if (kept_[idx] && wanted(idx)) return idx;
  }
  return -1;
}

void KeptGroups::Preempt(int32_t idx, int64_t for_arrival) {
  const int64_t arrival = view_.running[idx].arrival;
  const auto is_sibling = [&](int32_t other) {
    return view_.running[other].arrival == arrival;
  };
  const auto num_running = static_cast<int32_t>(kept_.size());
  while (idx + 1 < num_running && is_sibling(idx + 1)) ++idx;
  for (; idx >= 0 && is_sibling(idx); --idx) {
    const RunningSequence& seq = view_.running[idx];
    kept_[idx] = 0;
    --num_kept_;
    num_free_ += seq.num_private_blocks;
    held_[seq.tenant_idx] -= seq.num_private_blocks;
    decision_.preempted.push_back(idx);
    decision_.preempted_for.push_back(for_arrival);
  }
}

bool KeptGroups::MakeRoom(int32_t idx, bool is_safe) {
  const RunningSequence& seq = view_.running[idx];
  const int32_t num_wanted = Growth(idx);
  if (num_wanted == 0) return true;
  const TenantView& tenant = view_.tenants[seq.tenant_idx];
  while (is_kept(idx) &&
         held_[seq.tenant_idx] + num_wanted > tenant.max_num_blocks) {
    // Those before it have been served in this step.
    const int32_t last = LastKept([&](int32_t other) {
      return view_.running[other].tenant_idx == seq.tenant_idx &&
             this->is_safe(other) == is_safe;
    });
    const int32_t first_of_tenant = static_cast<int32_t>(
        std::find_if(view_.running.begin(), view_.running.end(),
                     [&](const RunningSequence& other) {
                       return other.tenant_idx == seq.tenant_idx &&
                              is_kept(static_cast<int32_t>(
                                  &other - view_.running.data()));
                     }) -
        view_.running.begin());
    // Alone, it may have more.
    if (view_.running[first_of_tenant].arrival == view_.running[last].arrival) {
      break;
    }
    Preempt(last, seq.arrival);
  }
  while (is_kept(idx) &&
         num_wanted > num_free_ - (is_safe ? 0 : num_earmarked_)) {
    int32_t last = -1;
    if (is_safe) {
      last = LastKept([&](int32_t other) { return !this->is_safe(other); });
    }
    if (last < 0) {
      last = LastKept(
          [&](int32_t other) { return this->is_safe(other) == is_safe; });
    }
    Preempt(last, seq.arrival);
  }
  return is_kept(idx);
}

void KeptGroups::TakeDecode(int32_t idx) {
  Hold(view_.running[idx].tenant_idx, Growth(idx));
  Spend(1);
}

void KeptGroups::GiveBackDecode(int32_t idx) {
  Hold(view_.running[idx].tenant_idx, -Growth(idx));
  Spend(-1);
}

int32_t KeptGroups::Room() const {
  int32_t room = num_free_;
  for (int32_t idx = 0; idx < static_cast<int32_t>(kept_.size()); ++idx) {
    const RunningSequence& seq = view_.running[idx];
    if (kept_[idx] && seq.is_prefill()) {
      room -= PromisedBlocks(seq, view_);
    }
  }
  return room;
}

bool KeptGroups::Reclaim(int32_t tenant_idx, int32_t num_wanted,
                         int64_t for_arrival) {
  const auto is_borrower = [&](int32_t idx) {
    return view_.running[idx].tenant_idx != tenant_idx && !is_safe(idx);
  };
  int32_t num_there = Room();
  for (int32_t idx = 0; idx < static_cast<int32_t>(kept_.size()); ++idx) {
    if (!kept_[idx] || !is_borrower(idx)) continue;
    const RunningSequence& seq = view_.running[idx];
    num_there += seq.num_private_blocks;
    if (seq.is_prefill()) num_there += PromisedBlocks(seq, view_);
  }
  if (num_there < num_wanted) return false;
  while (Room() < num_wanted) Preempt(LastKept(is_borrower), for_arrival);
  return true;
}

void KeptGroups::PreemptIfStuck() {
  bool wants_blocks = false;
  int32_t first = -1;
  for (int32_t idx = 0; idx < static_cast<int32_t>(kept_.size()); ++idx) {
    if (!kept_[idx]) continue;
    const RunningSequence& seq = view_.running[idx];
    // A result in flight will free something.
    if (seq.is_exhausted() || seq.awaits_result) return;
    wants_blocks |= seq.is_prefill();
    if (first < 0) first = idx;
  }
  if (!wants_blocks) return;
  int32_t last = LastKept([&](int32_t idx) { return !is_safe(idx); });
  if (last < 0) last = LastKept([](int32_t) { return true; });
  Preempt(last, view_.running[first].arrival);
}

}  // namespace quire
