// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/fair_pass.h"

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "coordinator/scheduler/block_arithmetic.h"
#include "coordinator/scheduler/paged_fcfs.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

// What a policy is shown, with owners of the spans.
struct Snapshot {
  std::vector<RunningSequence> running;
  std::vector<std::vector<WaitingGroup>> waiting;  // by tenant
  std::vector<TenantView> tenants;
  View view;

  explicit Snapshot(int num_tenants) : waiting(num_tenants) {
    tenants.resize(num_tenants);
    for (TenantView& tenant : tenants) tenant.cost_per_token = 1;
    view.block_size = kBlockSize;
    view.num_free_blocks = 100;
    view.num_free_slots = 10;
    view.max_num_batched_tokens = 64;
  }

  Decision Decide() {
    for (size_t idx = 0; idx < tenants.size(); ++idx) {
      tenants[idx].waiting = waiting[idx];
      tenants[idx].num_held_blocks = 0;
    }
    for (const RunningSequence& seq : running) {
      tenants[seq.tenant_idx].num_held_blocks += seq.num_private_blocks;
    }
    view.running = running;
    view.tenants = tenants;
    Decision decision;
    ScheduleFairly(view, {}, &decision);
    return decision;
  }

  void Wait(int tenant, int64_t arrival, int32_t num_tokens) {
    WaitingGroup group;
    group.arrival = arrival;
    group.num_tokens = num_tokens;
    group.num_wanted_blocks = BlocksFor(num_tokens, kBlockSize);
    waiting[tenant].push_back(group);
  }

  RunningSequence& Run(int tenant, int64_t arrival, int32_t num_tokens,
                       int32_t num_computed) {
    RunningSequence seq;
    seq.arrival = arrival;
    seq.tenant_idx = tenant;
    seq.slot = SlotId(static_cast<int32_t>(running.size()));
    seq.num_tokens = num_tokens;
    seq.num_computed_tokens = num_computed;
    seq.num_prefill_tokens =
        num_computed + 1 == num_tokens ? num_computed : num_tokens;
    seq.max_num_tokens = 1000;
    seq.num_blocks = BlocksFor(num_computed, kBlockSize);
    seq.num_private_blocks = seq.num_blocks;
    running.push_back(seq);
    return running.back();
  }
  RunningSequence& Decode(int tenant, int64_t arrival, int32_t num_tokens) {
    return Run(tenant, arrival, num_tokens, num_tokens - 1);
  }
};

std::map<int, int> AdmittedTokens(const Decision& decision) {
  std::map<int, int> tokens;
  for (const Admission& admission : decision.admissions) {
    tokens[admission.tenant_idx] += admission.num_tokens;
  }
  return tokens;
}

const WaitDetail* WhyOf(const Decision& decision, int tenant, int waiting_idx) {
  for (const Blocked& blocked : decision.blocked) {
    if (blocked.tenant_idx == tenant && blocked.waiting_idx == waiting_idx) {
      return &blocked.why;
    }
  }
  return nullptr;
}

TEST(FairPassTest, TheLeastServedTenantComesFirst) {
  Snapshot snapshot(2);
  snapshot.Wait(0, 1, 64);
  snapshot.Wait(1, 2, 64);
  snapshot.tenants[0].counter = 1000;
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(AdmittedTokens(decision), (std::map<int, int>{{1, 64}}));
  ASSERT_NE(WhyOf(decision, 0, 0), nullptr);
  EXPECT_EQ(WhyOf(decision, 0, 0)->reason, WaitReason::kTenantTurn);
}

// A budget of 512 has parts of 32, but a GPU wants 128 tokens.
TEST(FairPassTest, WhoIsFarAheadGetsAPartOfTheStepWhileAnotherRuns) {
  Snapshot snapshot(3);
  snapshot.view.max_num_batched_tokens = 512;
  snapshot.view.num_free_blocks = 1000;
  snapshot.Decode(0, 1, 9);
  snapshot.Run(1, 2, 300, 0);
  snapshot.Wait(2, 3, 300);
  snapshot.tenants[1].counter = 1000;
  snapshot.tenants[2].counter = 1000;
  const Decision decision = snapshot.Decide();
  ASSERT_EQ(decision.slices.size(), 2);  // the decode and a chunk
  int num_tokens = decision.slices[1].num_tokens;
  for (const auto& [tenant, num] : AdmittedTokens(decision)) num_tokens += num;
  EXPECT_EQ(num_tokens, 128);
}

TEST(FairPassTest, NobodyIsFarAheadWithinAStepOfTheLeastServed) {
  Snapshot snapshot(2);
  snapshot.view.max_num_batched_tokens = 512;
  snapshot.view.num_free_blocks = 1000;
  snapshot.Decode(0, 1, 9);
  snapshot.Run(1, 2, 600, 0);
  snapshot.tenants[1].counter = 512;
  const Decision decision = snapshot.Decide();
  ASSERT_EQ(decision.slices.size(), 2);
  EXPECT_EQ(decision.slices[1].num_tokens, 511);
}

TEST(FairPassTest, FarAheadOfNobodyWhoIsThereOrOfALowerPriority) {
  Snapshot snapshot(2);
  snapshot.view.max_num_batched_tokens = 512;
  snapshot.view.num_free_blocks = 1000;
  snapshot.Run(1, 2, 600, 0);
  snapshot.tenants[1].counter = 100000;
  // The other tenant has no group.
  ASSERT_EQ(snapshot.Decide().slices.size(), 1);
  EXPECT_EQ(snapshot.Decide().slices[0].num_tokens, 512);
  snapshot.Decode(0, 3, 9).priority = 1;
  EXPECT_EQ(snapshot.Decide().slices[1].num_tokens, 511);
}

TEST(FairPassTest, EqualTenantsShareAStepsBudget) {
  Snapshot snapshot(2);
  snapshot.Run(0, 1, 300, 0);
  snapshot.Wait(1, 2, 64);
  const Decision decision = snapshot.Decide();
  ASSERT_EQ(decision.slices.size(), 1);
  EXPECT_EQ(decision.slices[0].num_tokens, 32);
  EXPECT_EQ(AdmittedTokens(decision), (std::map<int, int>{{1, 32}}));
}

TEST(FairPassTest, WeightsDivideAStepsBudget) {
  Snapshot snapshot(2);
  snapshot.Run(0, 1, 300, 0);
  snapshot.Run(1, 2, 300, 0);
  snapshot.tenants[0].cost_per_token = 3;  // a third of the other's weight
  const Decision decision = snapshot.Decide();
  ASSERT_EQ(decision.slices.size(), 2);
  EXPECT_EQ(decision.slices[0].num_tokens, 16);
  EXPECT_EQ(decision.slices[1].num_tokens, 48);
}

TEST(FairPassTest, WhatOneCannotUseAnotherGets) {
  Snapshot snapshot(2);
  snapshot.Run(0, 1, 300, 0);
  snapshot.Wait(1, 2, 8);
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(AdmittedTokens(decision), (std::map<int, int>{{1, 8}}));
  ASSERT_EQ(decision.slices.size(), 1);
  EXPECT_EQ(decision.slices[0].num_tokens, 56);
}

TEST(FairPassTest, ABetterPriorityOutweighsTheCounter) {
  Snapshot snapshot(2);
  snapshot.Wait(0, 1, 64);
  snapshot.Wait(1, 2, 64);
  snapshot.tenants[0].counter = 1000;
  snapshot.waiting[1][0].priority = 1;
  snapshot.waiting[1][0].rank = 1;
  EXPECT_EQ(AdmittedTokens(snapshot.Decide()), (std::map<int, int>{{0, 64}}));
}

TEST(FairPassTest, HavingWaitedLongDoesNotOutweighHavingBeenServedMuch) {
  Snapshot snapshot(2);
  snapshot.Wait(0, 1, 64);
  snapshot.Wait(1, 2, 64);
  snapshot.tenants[0].counter = 1000;
  snapshot.view.rank_per_level = 100;
  snapshot.view.rank_now = 100000;
  snapshot.waiting[0][0].rank = 0;  // a thousand levels of waiting
  snapshot.waiting[1][0].rank = 99999;
  EXPECT_EQ(AdmittedTokens(snapshot.Decide()), (std::map<int, int>{{1, 64}}));
  // Against a better priority it makes up for its own.
  snapshot.tenants[0].counter = 0;
  snapshot.tenants[1].counter = 1000;
  snapshot.waiting[0][0].priority = 5;
  snapshot.waiting[0][0].rank = 500;
  EXPECT_EQ(AdmittedTokens(snapshot.Decide()), (std::map<int, int>{{0, 64}}));
}

TEST(FairPassTest, AMaximumKeepsATenantOutButNotOthers) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.tenants[0].max_num_blocks = 6;
  snapshot.Decode(0, 1, 18);  // holds 5
  snapshot.Wait(0, 2, 8);
  snapshot.Wait(1, 3, 8);
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(AdmittedTokens(decision), (std::map<int, int>{{1, 8}}));
  ASSERT_NE(WhyOf(decision, 0, 0), nullptr);
  EXPECT_EQ(WhyOf(decision, 0, 0)->reason, WaitReason::kTenantQuota);
  EXPECT_EQ(WhyOf(decision, 0, 0)->num_needed, 2);
  EXPECT_EQ(WhyOf(decision, 0, 0)->num_available, 1);
}

TEST(FairPassTest, AGroupAloneMayPassItsTenantsMaximum) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.tenants[0].max_num_blocks = 1;
  snapshot.Wait(0, 2, 40);
  EXPECT_EQ(AdmittedTokens(snapshot.Decide()), (std::map<int, int>{{0, 40}}));
}

TEST(FairPassTest, GrowthBeyondAMaximumTakesTheTenantsOwnLastGroup) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.tenants[0].max_num_blocks = 4;
  snapshot.Decode(0, 1, 9);  // needs a third block
  snapshot.Decode(0, 2, 8);
  snapshot.Decode(1, 3, 8);
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(decision.preempted, (std::vector<int32_t>{1}));
  EXPECT_EQ(decision.preempted_for, (std::vector<int64_t>{1}));
  EXPECT_EQ(decision.slices.size(), 2);
}

TEST(FairPassTest, AGuaranteeTakesBorrowedBlocksBackFromTheLast) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.view.num_free_blocks = 1;
  snapshot.tenants[1].num_guaranteed_blocks = 4;
  snapshot.Decode(0, 1, 40);
  snapshot.Decode(0, 2, 20);  // holds 5
  snapshot.Wait(1, 3, 12);
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(decision.preempted, (std::vector<int32_t>{1}));
  EXPECT_EQ(decision.preempted_for, (std::vector<int64_t>{3}));
  EXPECT_EQ(AdmittedTokens(decision), (std::map<int, int>{{1, 12}}));
}

TEST(FairPassTest, NobodyIsTakenBackInVainOrForMoreThanTheGuarantee) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.view.num_free_blocks = 1;
  snapshot.Decode(0, 2, 20);
  snapshot.Wait(1, 3, 32);
  snapshot.tenants[1].num_guaranteed_blocks = 8;  // 8 wanted, 6 to be had
  EXPECT_TRUE(snapshot.Decide().preempted.empty());
  snapshot.waiting[1][0].num_wanted_blocks = 5;
  snapshot.tenants[1].num_guaranteed_blocks = 4;
  EXPECT_TRUE(snapshot.Decide().preempted.empty());
}

TEST(FairPassTest, AGroupIsTakenBackABoundedNumberOfTimes) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.view.num_free_blocks = 1;
  snapshot.tenants[1].num_guaranteed_blocks = 4;
  snapshot.Decode(0, 2, 20).num_group_preemptions = kMaxReclaims;
  snapshot.Wait(1, 3, 12);
  EXPECT_TRUE(snapshot.Decide().preempted.empty());
}

TEST(FairPassTest, ADecodeWithinItsGuaranteeTakesFromABorrower) {
  Snapshot snapshot(2);
  snapshot.view.has_quotas = true;
  snapshot.view.num_free_blocks = 0;
  snapshot.tenants[1].num_guaranteed_blocks = 4;
  snapshot.Decode(0, 1, 9);  // earlier, and wants a block too
  snapshot.Decode(1, 2, 9);
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(decision.preempted, (std::vector<int32_t>{0}));
  ASSERT_EQ(decision.slices.size(), 1);
  EXPECT_EQ(decision.slices[0].running_idx, 1);
}

TEST(FairPassTest, AHeadIsPassedABoundedNumberOfTimesByAnyTenant) {
  Snapshot snapshot(2);
  snapshot.view.num_free_blocks = 5;
  snapshot.Decode(0, 1, 2);
  snapshot.Wait(0, 2, 40);
  snapshot.waiting[0][0].num_bypasses = 7;
  snapshot.Wait(1, 3, 4);
  snapshot.Wait(1, 4, 4);
  snapshot.tenants[1].counter = 10;
  const Decision decision = snapshot.Decide();
  EXPECT_EQ(AdmittedTokens(decision), (std::map<int, int>{{1, 4}}));
  ASSERT_EQ(decision.bypasses.size(), 1);
  EXPECT_EQ(decision.bypasses[0].tenant_idx, 0);
  EXPECT_EQ(decision.bypasses[0].num_others, 1);
  ASSERT_NE(WhyOf(decision, 1, 1), nullptr);
  EXPECT_EQ(WhyOf(decision, 1, 1)->reason, WaitReason::kHeadReserved);
  EXPECT_EQ(WhyOf(decision, 1, 1)->other_arrival, 2);
}

// A view of one tenant, whose decisions PagedFcfs knows.
Snapshot RandomSnapshot(std::mt19937* random) {
  const auto pick = [random](int least, int most) {
    return least + static_cast<int32_t>((*random)() % (most - least + 1));
  };
  Snapshot snapshot(1);
  int64_t arrival = 0;
  const int num_running = pick(0, 6);
  for (int i = 0; i < num_running; ++i) {
    const int32_t num_tokens = pick(2, 40);
    RunningSequence& seq =
        pick(0, 2) == 0
            ? snapshot.Run(0, ++arrival, num_tokens, pick(0, num_tokens - 2))
            : snapshot.Decode(0, ++arrival, num_tokens);
    if (pick(0, 9) == 0) seq.max_num_tokens = seq.num_tokens;
    if (pick(0, 9) == 0) seq.awaits_result = true;
    if (pick(0, 5) == 0) {
      seq.shares_last_block = true;
      seq.num_private_blocks = 0;
    }
  }
  const int num_waiting = pick(0, 20);
  for (int i = 0; i < num_waiting; ++i) {
    snapshot.Wait(0, ++arrival, pick(1, 60));
    WaitingGroup& group = snapshot.waiting[0].back();
    group.preempted = pick(0, 7) == 0;
    group.ready = pick(0, 9) != 0;
    group.num_bypasses = pick(0, 9);
  }
  snapshot.view.num_free_blocks = pick(0, 40);
  snapshot.view.watermark_blocks = pick(0, 2);
  snapshot.view.num_free_slots = pick(0, 8);
  snapshot.view.max_num_batched_tokens = pick(1, 120);
  snapshot.view.force_preemption = pick(0, 9) == 0;
  return snapshot;
}

TEST(FairPassTest, OneTenantAloneIsServedAsWithoutTenants) {
  std::mt19937 random(7);
  int num_with_preemption = 0;
  int num_with_bypass = 0;
  for (int round = 0; round < 20000; ++round) {
    SCOPED_TRACE(round);
    Snapshot snapshot = RandomSnapshot(&random);
    const Decision fair = snapshot.Decide();
    View plain_view = snapshot.view;
    plain_view.tenants = {};
    plain_view.waiting = snapshot.waiting[0];
    Decision plain;
    PagedFcfs().Schedule(plain_view, &plain);
    ASSERT_EQ(fair.preempted, plain.preempted);
    ASSERT_EQ(fair.preempted_for, plain.preempted_for);
    ASSERT_EQ(fair.slices, plain.slices);
    ASSERT_EQ(fair.admissions, plain.admissions);
    const int32_t num_bypasses =
        fair.bypasses.empty() ? 0 : fair.bypasses[0].num_others;
    const bool passed =
        !plain.admissions.empty() && plain.admissions[0].waiting_idx > 0;
    ASSERT_EQ(num_bypasses, passed ? plain.admissions.size() : 0);
    num_with_preemption += !plain.preempted.empty();
    num_with_bypass += passed;
    // Who is behind waits for what the first one waits for.
    ASSERT_EQ(fair.blocked.empty(), plain.blocked.empty());
    if (plain.blocked.empty() || !plain.preempted.empty()) continue;
    ASSERT_EQ(fair.blocked[0].waiting_idx, plain.blocked[0].waiting_idx);
    ASSERT_EQ(fair.blocked[0].why.reason, plain.blocked[0].why.reason);
  }
  // The snapshots are worth something.
  EXPECT_GT(num_with_preemption, 500);
  EXPECT_GT(num_with_bypass, 500);
}

TEST(FairPassTest, NothingIsGivenTwiceWhateverTheView) {
  std::mt19937 random(8);
  for (int round = 0; round < 20000; ++round) {
    SCOPED_TRACE(round);
    Snapshot snapshot = RandomSnapshot(&random);
    Snapshot tenants(4);
    tenants.view = snapshot.view;
    tenants.view.has_quotas = random() % 2 == 0;
    tenants.running = snapshot.running;
    for (RunningSequence& seq : tenants.running) {
      seq.tenant_idx = static_cast<int32_t>(random() % 4);
      seq.num_group_preemptions = static_cast<int32_t>(random() % 6);
    }
    for (const WaitingGroup& group : snapshot.waiting[0]) {
      tenants.waiting[random() % 4].push_back(group);
    }
    for (TenantView& tenant : tenants.tenants) {
      tenant.counter = static_cast<int64_t>(random() % 100);
      if (!tenants.view.has_quotas) continue;
      tenant.num_guaranteed_blocks = static_cast<int32_t>(random() % 10);
      if (random() % 2 == 0) tenant.max_num_blocks = 5 + random() % 20;
    }
    const Decision decision = tenants.Decide();
    int64_t num_free = tenants.view.num_free_blocks;
    int64_t budget = tenants.view.max_num_batched_tokens;
    std::vector<bool> kept(tenants.running.size(), true);
    for (const int32_t idx : decision.preempted) {
      ASSERT_TRUE(kept[idx]);
      kept[idx] = false;
      num_free += tenants.running[idx].num_private_blocks;
    }
    for (const ScheduledSlice& slice : decision.slices) {
      ASSERT_TRUE(kept[slice.running_idx]);
      num_free -= GrowthBlocks(tenants.running[slice.running_idx],
                               slice.num_tokens, kBlockSize);
      budget -= slice.num_tokens;
    }
    std::vector<int32_t> last(4, -1);
    for (const Admission& admission : decision.admissions) {
      ASSERT_GT(admission.waiting_idx, last[admission.tenant_idx]);
      last[admission.tenant_idx] = admission.waiting_idx;
      const WaitingGroup& group =
          tenants.waiting[admission.tenant_idx][admission.waiting_idx];
      num_free -= group.num_wanted_blocks;
      budget -= admission.num_tokens;
      ASSERT_LE(admission.num_tokens, group.num_tokens);
      ASSERT_GT(admission.num_tokens, 0);
    }
    ASSERT_GE(num_free, 0);
    ASSERT_GE(budget, 0);
    // Every head that stays has a reason.
    for (int tenant = 0; tenant < 4; ++tenant) {
      const auto num_admitted = std::count_if(
          decision.admissions.begin(), decision.admissions.end(),
          [&](const Admission& a) { return a.tenant_idx == tenant; });
      const bool stays = num_admitted < tenants.waiting[tenant].size();
      const bool explained = std::any_of(
          decision.blocked.begin(), decision.blocked.end(),
          [&](const Blocked& blocked) { return blocked.tenant_idx == tenant; });
      ASSERT_EQ(stays, explained) << tenant;
    }
  }
}

}  // namespace
}  // namespace quire
