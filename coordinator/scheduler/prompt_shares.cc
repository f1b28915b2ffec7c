// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/prompt_shares.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "coordinator/scheduler/block_arithmetic.h"

namespace quire {
namespace {

// Parts of a full budget: enough that each of a few tenants gets its weight,
// few enough to cost nothing.
constexpr int32_t kNumParts = 16;
// Tokens of a step that tenants far ahead share, at least: fewer would leave a
// GPU's matrix units idle while it reads the weights (an H200 balances at 185
// tokens, decodes included).
constexpr int32_t kLeastFarAhead = 128;
// Groups of which is said why they wait, at most: a step's cost is bounded.
constexpr size_t kMaxExplained = 64;

}  // namespace

PromptShares::PromptShares(const View& view, const FairPassOptions& options,
                           KeptGroups* kept, Decision* decision)
    : view_(view),
      options_(options),
      kept_(*kept),
      decision_(*decision),
      shares_(decision->scratch.shares),
      next_(decision->scratch.next),
      heap_(decision->scratch.heap),
      num_slots_(view.num_free_slots),
      quantum_(
          std::max(view.block_size, view.max_num_batched_tokens / kNumParts)),
      far_ahead_budget_(std::max(quantum_, kLeastFarAhead)) {
  shares_.assign(view.tenants.size(), {});
  for (size_t idx = 0; idx < shares_.size(); ++idx) {
    shares_[idx].counter = view.tenants[idx].counter;
  }
}

int32_t PromptShares::Reclaim() {
  const int32_t room = kept_.Room();
  int32_t chosen = -1;
  for (int32_t idx = 0; idx < static_cast<int32_t>(shares_.size()); ++idx) {
    const TenantView& tenant = view_.tenants[idx];
    if (tenant.waiting.empty()) continue;
    const WaitingGroup& head = tenant.waiting[0];
    const bool fits = head.num_wanted_blocks <= room - view_.watermark_blocks;
    // The pool is kept for it.
    if (!fits && head.num_bypasses >= options_.max_bypasses) return -1;
    if (fits || !head.ready || head.num_seqs > num_slots_ ||
        kept_.num_held(idx) + head.num_wanted_blocks >
            tenant.num_guaranteed_blocks) {
      continue;
    }
    if (chosen < 0 || tenant.counter < view_.tenants[chosen].counter) {
      chosen = idx;
    }
  }
  if (chosen < 0) return -1;
  const WaitingGroup& head = view_.tenants[chosen].waiting[0];
  if (!kept_.Reclaim(chosen, head.num_wanted_blocks, head.arrival)) return -1;
  kept_.Earmark(head.num_wanted_blocks);
  return chosen;
}

// Each tenant's running prompts, linked in order.
void PromptShares::ListPrompts() {
  next_.assign(view_.running.size(), -1);
  for (auto idx = static_cast<int32_t>(view_.running.size()) - 1; idx >= 0;
       --idx) {
    const RunningSequence& seq = view_.running[idx];
    if (!seq.is_prefill() || seq.awaits_result || !kept_.is_kept(idx)) continue;
    TenantShare& share = shares_[seq.tenant_idx];
    next_[idx] = share.running_idx;
    share.running_idx = idx;
    best_ = std::min<int64_t>(best_, seq.priority);
  }
}

bool PromptShares::LeadsByAStep(int32_t tenant_idx, int64_t counter) const {
  return shares_[tenant_idx].counter - counter >
         view_.max_num_batched_tokens *
             view_.tenants[tenant_idx].cost_per_token;
}

// Far ahead is who has been served more than a whole step's prompts beyond the
// least served tenant that has groups, unless its own are of a better level.
void PromptShares::FindFarAhead() {
  int64_t least_counter = std::numeric_limits<int64_t>::max();
  for (const TenantView& tenant : view_.tenants) {
    if (tenant.cost_per_token == 0) continue;  // nobody's
    least_counter = std::min(least_counter, tenant.counter);
  }
  // Mostly nobody is, and the rest is a pass over all that run.
  if (std::none_of(heap_.begin(), heap_.end(), [&](int32_t idx) {
        return LeadsByAStep(idx, least_counter);
      })) {
    return;
  }
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  for (const RunningSequence& seq : view_.running) {
    int64_t& level = shares_[seq.tenant_idx].best_level;
    level = std::min<int64_t>(level, seq.priority);
  }
  int32_t least = -1;
  for (int32_t idx = 0; idx < static_cast<int32_t>(shares_.size()); ++idx) {
    const absl::Span<const WaitingGroup> waiting = view_.tenants[idx].waiting;
    int64_t& level = shares_[idx].best_level;
    if (!waiting.empty()) {
      level = std::min<int64_t>(level, waiting[0].priority);
    }
    if (level == kNone) continue;  // it has no groups
    if (least < 0 || shares_[idx].counter < shares_[least].counter) least = idx;
  }
  for (const int32_t idx : heap_) {
    shares_[idx].is_far_ahead =
        idx != reclaimer_ &&
        shares_[idx].best_level >= shares_[least].best_level &&
        LeadsByAStep(idx, shares_[least].counter);
  }
}

int32_t PromptShares::PartOf(int32_t tenant_idx) const {
  const int32_t part = std::min(quantum_, kept_.budget());
  return shares_[tenant_idx].is_far_ahead ? std::min(part, far_ahead_budget_)
                                          : part;
}

void PromptShares::Prepare(int32_t reclaimer) {
  reclaimer_ = reclaimer;
  room_ = kept_.Room();
  best_ = std::numeric_limits<int64_t>::max();
  ListPrompts();
  heap_.clear();
  for (int32_t idx = 0; idx < static_cast<int32_t>(shares_.size()); ++idx) {
    const TenantView& tenant = view_.tenants[idx];
    if (!tenant.waiting.empty()) {
      best_ = std::min<int64_t>(best_, tenant.waiting[0].priority);
    }
    if (!tenant.waiting.empty() || shares_[idx].running_idx >= 0) {
      heap_.push_back(idx);
    }
  }
  FindFarAhead();
  for (const int32_t idx : heap_) SetKey(idx);
  std::make_heap(heap_.begin(), heap_.end(),
                 [this](int32_t a, int32_t b) { return IsAfter(a, b); });
}

void PromptShares::SetKey(int32_t tenant_idx) {
  TenantShare& share = shares_[tenant_idx];
  const absl::Span<const WaitingGroup> waiting =
      view_.tenants[tenant_idx].waiting;
  if (share.running_idx >= 0) {
    share.rank = view_.running[share.running_idx].rank;
  } else if (share.waiting_idx < static_cast<int32_t>(waiting.size())) {
    share.rank = waiting[share.waiting_idx].rank;
  }
  share.level = std::max(best_, view_.LevelOf(share.rank));
  if (tenant_idx == reclaimer_) {
    share.level = std::numeric_limits<int64_t>::min();
  }
}

bool PromptShares::IsAfter(int32_t a, int32_t b) const {
  const TenantShare& x = shares_[a];
  const TenantShare& y = shares_[b];
  return std::tie(x.level, x.counter, x.rank, a) >
         std::tie(y.level, y.counter, y.rank, b);
}

void PromptShares::Share(int32_t reclaimer, bool may_admit) {
  may_admit_ = may_admit;
  Prepare(reclaimer);
  const auto is_after = [this](int32_t a, int32_t b) { return IsAfter(a, b); };
  while (!heap_.empty() && kept_.budget() > 0) {
    std::pop_heap(heap_.begin(), heap_.end(), is_after);
    const int32_t tenant_idx = heap_.back();
    if (Give(tenant_idx)) {
      SetKey(tenant_idx);
      std::push_heap(heap_.begin(), heap_.end(), is_after);
    } else {
      heap_.pop_back();
    }
  }
}

bool PromptShares::Give(int32_t tenant_idx) {
  TenantShare& share = shares_[tenant_idx];
  if (PartOf(tenant_idx) == 0) return false;
  if (share.running_idx >= 0) {
    GiveChunk(tenant_idx);
    return true;
  }
  if (share.admission_idx >= 0) {
    Admission& admission = decision_.admissions[share.admission_idx];
    const WaitingGroup& group =
        view_.tenants[tenant_idx].waiting[admission.waiting_idx];
    const int32_t num_tokens =
        std::min(group.num_tokens - admission.num_tokens, PartOf(tenant_idx));
    admission.num_tokens += num_tokens;
    Charge(tenant_idx, num_tokens);
    if (admission.num_tokens >= group.num_tokens) share.admission_idx = -1;
    return true;
  }
  return may_admit_ && !share.done && Admit(tenant_idx);
}

void PromptShares::GiveChunk(int32_t tenant_idx) {
  TenantShare& share = shares_[tenant_idx];
  const int32_t idx = share.running_idx;
  const RunningSequence& seq = view_.running[idx];
  const int32_t num_given =
      share.slice_idx < 0 ? 0 : decision_.slices[share.slice_idx].num_tokens;
  const int32_t num_taken =
      num_given == 0 ? 0 : GrowthBlocks(seq, num_given, view_.block_size);
  const int32_t num_left = seq.num_tokens - seq.num_computed_tokens - num_given;
  const int32_t num_wanted = std::min(num_left, PartOf(tenant_idx));
  const int32_t num_tokens =
      FittingTokens(seq, num_given + num_wanted, kept_.num_free() + num_taken,
                    view_.block_size) -
      num_given;
  if (num_tokens > 0) {
    if (share.slice_idx < 0) {
      share.slice_idx = static_cast<int32_t>(decision_.slices.size());
      decision_.slices.push_back({.running_idx = idx, .num_tokens = 0});
    }
    decision_.slices[share.slice_idx].num_tokens += num_tokens;
    kept_.Hold(tenant_idx,
               GrowthBlocks(seq, num_given + num_tokens, view_.block_size) -
                   num_taken);
    Charge(tenant_idx, num_tokens);
  }
  if (num_tokens < num_wanted || num_tokens == num_left) {
    share.running_idx = next_[idx];
    share.slice_idx = -1;
  }
}

void PromptShares::Charge(int32_t tenant_idx, int32_t num_tokens) {
  kept_.Spend(num_tokens);
  if (shares_[tenant_idx].is_far_ahead) far_ahead_budget_ -= num_tokens;
  shares_[tenant_idx].counter +=
      num_tokens * view_.tenants[tenant_idx].cost_per_token;
}

// A group that comes in alone may have everything.
int32_t PromptShares::Watermark(int32_t tenant_idx) const {
  const bool is_alone = !kept_.is_any_kept() && decision_.admissions.empty();
  return is_alone || tenant_idx == reclaimer_ ? 0 : view_.watermark_blocks;
}

WaitDetail PromptShares::Obstacle(int32_t tenant_idx,
                                  const WaitingGroup& group) const {
  if (!group.ready) return {.reason = WaitReason::kResultsInFlight};
  if (group.num_seqs > num_slots_) {
    return {.reason = WaitReason::kNoSlot,
            .num_needed = group.num_seqs,
            .num_available = num_slots_};
  }
  const int32_t num_held = kept_.num_held(tenant_idx);
  const int32_t max_num_blocks = view_.tenants[tenant_idx].max_num_blocks;
  // Whoever is alone there may have more, or would wait for ever.
  if (num_held > 0 && group.num_wanted_blocks > max_num_blocks - num_held) {
    return {.reason = WaitReason::kTenantQuota,
            .num_needed = group.num_wanted_blocks,
            .num_available = std::max(0, max_num_blocks - num_held)};
  }
  const int32_t room = room_ - Watermark(tenant_idx);
  if (group.num_wanted_blocks > room) {
    return {.reason = WaitReason::kNeedsBlocks,
            .num_needed = group.num_wanted_blocks,
            .num_available = std::max(0, room)};
  }
  return {.reason = WaitReason::kNextStep};
}

const WaitingGroup* PromptShares::KeptFor(int32_t tenant_idx) const {
  for (const int32_t waiter : {tenant_idx, first_waiter_}) {
    if (waiter < 0 || shares_[waiter].head_idx < 0) continue;
    if (shares_[waiter].num_bypasses >= options_.max_bypasses ||
        Head(waiter).preempted) {
      return &Head(waiter);
    }
  }
  return nullptr;
}

bool PromptShares::Pass(int32_t tenant_idx, const WaitingGroup& group) {
  TenantShare& share = shares_[tenant_idx];
  if (share.head_idx < 0) {
    // Who comes after an admission in the same step is no head.
    if (share.waiting_idx > 0) return false;
    share.head_idx = 0;
    share.num_bypasses = group.num_bypasses;
    if (first_waiter_ < 0) first_waiter_ = tenant_idx;
    if (group.preempted) return false;
  }
  return share.waiting_idx++ < options_.bypass_window;
}

void PromptShares::CountBypass(int32_t tenant_idx) {
  if (first_waiter_ >= 0) ++shares_[first_waiter_].num_bypasses;
  TenantShare& own = shares_[tenant_idx];
  if (tenant_idx != first_waiter_ && own.head_idx >= 0) ++own.num_bypasses;
}

bool PromptShares::Admit(int32_t tenant_idx) {
  TenantShare& share = shares_[tenant_idx];
  const absl::Span<const WaitingGroup> waiting =
      view_.tenants[tenant_idx].waiting;
  if (share.waiting_idx >= static_cast<int32_t>(waiting.size())) return false;
  const WaitingGroup& group = waiting[share.waiting_idx];
  const WaitDetail why = Obstacle(tenant_idx, group);
  if (why.reason == WaitReason::kNeedsBlocks) {
    Block(tenant_idx, why);
    share.done = !Pass(tenant_idx, group);
    return !share.done;
  }
  if (why.reason != WaitReason::kNextStep) {
    // Others would take each slot as it comes free.
    if (why.reason == WaitReason::kNoSlot) may_admit_ = false;
    Block(tenant_idx, why);
    share.done = true;
    return false;
  }
  if (const WaitingGroup* kept_for = KeptFor(tenant_idx)) {
    Block(tenant_idx, {.reason = WaitReason::kHeadReserved,
                       .num_needed = kept_for->num_wanted_blocks,
                       .other_arrival = kept_for->arrival});
    share.done = true;
    return false;
  }
  CountBypass(tenant_idx);
  room_ -= group.num_wanted_blocks;
  num_slots_ -= group.num_seqs;
  kept_.Hold(tenant_idx, group.num_wanted_blocks);
  const int32_t num_tokens = std::min(group.num_tokens, PartOf(tenant_idx));
  share.admission_idx = num_tokens < group.num_tokens
                            ? static_cast<int32_t>(decision_.admissions.size())
                            : -1;
  decision_.admissions.push_back({.waiting_idx = share.waiting_idx++,
                                  .num_tokens = num_tokens,
                                  .tenant_idx = tenant_idx});
  Charge(tenant_idx, num_tokens);
  return true;
}

void PromptShares::Block(int32_t tenant_idx, const WaitDetail& why) {
  TenantShare& share = shares_[tenant_idx];
  share.is_explained = true;
  if (decision_.blocked.size() >= kMaxExplained) return;
  decision_.blocked.push_back(
      {.tenant_idx = tenant_idx, .waiting_idx = share.waiting_idx, .why = why});
}

void PromptShares::Explain(bool may_admit) {
  const auto is_served = [this](int32_t idx) {
    return shares_[idx].counter != view_.tenants[idx].counter;
  };
  const auto num_tenants = static_cast<int32_t>(shares_.size());
  int32_t num_served = 0;
  for (int32_t idx = 0; idx < num_tenants; ++idx) num_served += is_served(idx);
  for (int32_t idx = 0; idx < num_tenants; ++idx) {
    const TenantShare& share = shares_[idx];
    if (share.head_idx >= 0 && share.num_bypasses > Head(idx).num_bypasses) {
      decision_.bypasses.push_back(
          {.tenant_idx = idx,
           .waiting_idx = share.head_idx,
           .num_others = share.num_bypasses - Head(idx).num_bypasses});
    }
    const absl::Span<const WaitingGroup> waiting = view_.tenants[idx].waiting;
    if (share.is_explained ||
        share.waiting_idx >= static_cast<int32_t>(waiting.size())) {
      continue;
    }
    const WaitingGroup& group = waiting[share.waiting_idx];
    if (!group.ready) {
      Block(idx, {.reason = WaitReason::kResultsInFlight});
    } else if (!may_admit) {
      Block(idx, {.reason = WaitReason::kNeedsBlocks,
                  .num_needed = group.num_wanted_blocks});
    } else if (num_served > 0 && !is_served(idx)) {
      Block(idx, {.reason = WaitReason::kTenantTurn});
    } else {
      Block(idx, {.reason = WaitReason::kTokenBudget,
                  .num_needed = group.num_tokens});
    }
  }
}

}  // namespace quire
