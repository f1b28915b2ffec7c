// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/kept_groups.h"

#include <memory>
#include <vector>

#include "coordinator/scheduler/fair_pass.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 16;

// Two tenants: 0 has a guarantee of ten blocks, 1 has none.
class KeptGroupsTest : public testing::Test {
 protected:
  KeptGroupsTest() {
    tenants_.resize(2);
    tenants_[0].num_guaranteed_blocks = 10;
  }

  // A decode that holds `num_blocks`, all full, so that its next token wants
  // another.
  void Add(int64_t arrival, int32_t tenant_idx, int32_t num_blocks) {
    RunningSequence seq;
    seq.arrival = arrival;
    seq.tenant_idx = tenant_idx;
    seq.num_computed_tokens = num_blocks * kBlockSize;
    seq.num_tokens = seq.num_computed_tokens + 1;
    seq.num_prefill_tokens = 1;
    seq.max_num_tokens = 10000;
    seq.num_blocks = seq.num_private_blocks = num_blocks;
    running_.push_back(seq);
    tenants_[tenant_idx].num_held_blocks += num_blocks;
  }
  // What has `num_left` tokens of its prompt to compute.
  void AddPrompt(int64_t arrival, int32_t tenant_idx, int32_t num_blocks,
                 int32_t num_left) {
    Add(arrival, tenant_idx, num_blocks);
    RunningSequence& seq = running_.back();
    seq.num_tokens = seq.num_prefill_tokens =
        seq.num_computed_tokens + num_left;
  }

  KeptGroups& Kept(int32_t num_free) {
    view_.running = running_;
    view_.tenants = tenants_;
    view_.has_quotas = true;
    view_.block_size = kBlockSize;
    view_.num_free_blocks = num_free;
    view_.max_num_batched_tokens = 100;
    decision_.Clear();
    kept_ = std::make_unique<KeptGroups>(view_, &decision_);
    return *kept_;
  }

  std::vector<RunningSequence> running_;
  std::vector<TenantView> tenants_;
  View view_;
  Decision decision_;
  std::unique_ptr<KeptGroups> kept_;
};

TEST_F(KeptGroupsTest, SafeAreThoseWithinTheGuaranteeAndThoseTakenBackOften) {
  Add(1, 0, 9);
  Add(2, 1, 9);
  Add(3, 1, 1);
  running_[2].num_group_preemptions = kMaxReclaims;
  KeptGroups& kept = Kept(5);
  EXPECT_TRUE(kept.is_safe(0));
  EXPECT_FALSE(kept.is_safe(1));
  EXPECT_TRUE(kept.is_safe(2));
  tenants_[0].num_held_blocks = 11;
  EXPECT_FALSE(Kept(5).is_safe(0));
}

TEST_F(KeptGroupsTest, AGroupGoesWhole) {
  Add(1, 1, 3);
  Add(2, 1, 2);
  Add(2, 1, 4);
  Add(3, 1, 1);
  KeptGroups& kept = Kept(0);
  kept.Preempt(1, /*for_arrival=*/1);
  EXPECT_EQ(decision_.preempted, (std::vector<int32_t>{2, 1}));
  EXPECT_EQ(decision_.preempted_for, (std::vector<int64_t>{1, 1}));
  EXPECT_TRUE(kept.is_kept(0) && kept.is_kept(3));
  EXPECT_EQ(kept.num_free(), 6);
  EXPECT_EQ(kept.num_held(1), 4);
}

TEST_F(KeptGroupsTest, RoomForASafeOneIsTakenFromBorrowersFirst) {
  Add(1, 1, 5);
  Add(2, 0, 5);
  Add(3, 0, 5);
  KeptGroups& kept = Kept(0);
  EXPECT_TRUE(kept.MakeRoom(1, /*is_safe=*/true));
  EXPECT_FALSE(kept.is_kept(0));  // though it came first
  EXPECT_TRUE(kept.is_kept(2));
}

TEST_F(KeptGroupsTest, ABorrowerTakesNothingFromTheSafe) {
  Add(1, 0, 5);
  Add(2, 1, 5);
  KeptGroups& kept = Kept(0);
  EXPECT_FALSE(kept.MakeRoom(1, /*is_safe=*/false));
  EXPECT_TRUE(kept.is_kept(0));
  EXPECT_FALSE(kept.is_kept(1));
}

TEST_F(KeptGroupsTest, WhatIsKeptForAHeadIsOutOfABorrowersReach) {
  Add(1, 1, 5);
  KeptGroups& kept = Kept(3);
  kept.Earmark(3);
  EXPECT_FALSE(kept.MakeRoom(0, /*is_safe=*/false));
  KeptGroups& other = Kept(3);
  other.Earmark(2);
  EXPECT_TRUE(other.MakeRoom(0, /*is_safe=*/false));
}

TEST_F(KeptGroupsTest, ATenantAtItsMaximumMakesRoomItself) {
  Add(1, 1, 4);
  Add(2, 0, 2);
  Add(3, 1, 4);
  tenants_[1].max_num_blocks = 8;
  KeptGroups& kept = Kept(20);
  EXPECT_TRUE(kept.MakeRoom(0, /*is_safe=*/false));
  EXPECT_FALSE(kept.is_kept(2));
  // Its last one may have more than that.
  running_.resize(1);
  tenants_[1].num_held_blocks = 4;
  tenants_[1].max_num_blocks = 4;
  EXPECT_TRUE(Kept(20).MakeRoom(0, /*is_safe=*/false));
}

TEST_F(KeptGroupsTest, ReclaimingTakesAllThatIsWantedOrNothing) {
  Add(1, 1, 4);
  Add(2, 1, 3);
  Add(3, 0, 5);
  KeptGroups& kept = Kept(1);
  EXPECT_FALSE(kept.Reclaim(/*tenant_idx=*/0, /*num_wanted=*/9, 4));
  EXPECT_TRUE(decision_.preempted.empty());
  EXPECT_TRUE(kept.Reclaim(0, 4, 4));
  EXPECT_EQ(decision_.preempted, (std::vector<int32_t>{1}));
}

TEST_F(KeptGroupsTest, WhatRunningPromptsWerePromisedIsNoRoom) {
  AddPrompt(1, 1, 1, 3 * kBlockSize);
  KeptGroups& kept = Kept(5);
  EXPECT_EQ(kept.Room(), 2);
  kept.Preempt(0, 0);
  EXPECT_EQ(kept.Room(), 6);
}

TEST_F(KeptGroupsTest, PromptsThatHoldThePoolBetweenThemLoseTheirLast) {
  AddPrompt(1, 0, 3, 20);
  AddPrompt(2, 0, 3, 20);
  KeptGroups& kept = Kept(0);
  kept.PreemptIfStuck();
  EXPECT_EQ(decision_.preempted, (std::vector<int32_t>{1}));
  // A result in flight may free something.
  running_[0].awaits_result = true;
  Kept(0).PreemptIfStuck();
  EXPECT_TRUE(decision_.preempted.empty());
}

TEST_F(KeptGroupsTest, ADecodeThatIsGivenBackCostsNothing) {
  Add(1, 1, 2);
  KeptGroups& kept = Kept(3);
  kept.TakeDecode(0);
  EXPECT_EQ(kept.num_free(), 2);
  EXPECT_EQ(kept.num_held(1), 3);
  EXPECT_EQ(kept.budget(), 99);
  kept.GiveBackDecode(0);
  EXPECT_EQ(kept.num_free(), 3);
  EXPECT_EQ(kept.num_held(1), 2);
  EXPECT_EQ(kept.budget(), 100);
}

}  // namespace
}  // namespace quire
