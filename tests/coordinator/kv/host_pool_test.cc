// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/host_pool.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(HostPoolTest, TheBlockFreedLongestAgoIsUsedFirst) {
  HostPool pool(/*num_blocks=*/3);
  const StepPlan plan;
  for (int32_t block : {0, 1, 2}) {
    EXPECT_EQ(pool.Allocate(plan), HostBlockId(block));
  }
  EXPECT_EQ(pool.Allocate(plan), std::nullopt);
  pool.Free(HostBlockId(1));
  pool.Free(HostBlockId(0));
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_TRUE(pool.CheckInvariants().ok());
  EXPECT_EQ(pool.Allocate(plan), HostBlockId(1));
  EXPECT_EQ(pool.Allocate(plan), HostBlockId(0));
}

TEST(HostPoolTest, ABlockThatThePlanReadsWaitsForTheNext) {
  HostPool pool(1);
  StepPlan plan;
  const HostBlockId host = *pool.Allocate(plan);
  pool.SwapIn(host, BlockId(4), &plan);
  pool.Free(host);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.Allocate(plan), std::nullopt);
  EXPECT_EQ(pool.Allocate(StepPlan()), host);
}

TEST(HostPoolTest, AnotherPlanWithOtherMovesIsNotMistakenForIt) {
  HostPool pool(2);
  StepPlan first;
  const HostBlockId a = *pool.Allocate(first);
  const HostBlockId b = *pool.Allocate(first);
  pool.SwapIn(a, BlockId(0), &first);
  pool.Free(a);
  StepPlan second;
  pool.SwapIn(b, BlockId(1), &second);  // stands where a's stood
  EXPECT_EQ(pool.Allocate(second), a);
}

TEST(HostPoolTest, TheSecondToWriteABlockInAPlanTakesOverTheMove) {
  HostPool pool(2);
  StepPlan plan;
  const HostBlockId a = *pool.Allocate(plan);
  const HostBlockId b = *pool.Allocate(plan);
  pool.SwapOut(BlockId(1), a, &plan);
  pool.SwapOut(BlockId(2), b, &plan);
  pool.SwapOut(BlockId(3), a, &plan);
  ASSERT_EQ(plan.swap_outs.size(), 2);
  EXPECT_EQ(plan.swap_outs[0], (BlockSwap{BlockId(3), a}));
  EXPECT_EQ(plan.swap_outs[1], (BlockSwap{BlockId(2), b}));
}

TEST(HostPoolTest, PrefixesAreGivenUpBeforeParkedBlocks) {
  HostPool pool(3);
  const StepPlan plan;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(pool.Allocate(plan).has_value());
  EXPECT_EQ(pool.NextVictim(CacheRank::kSurely), std::nullopt);  // all claimed
  pool.List(HostBlockId(0), CacheRank::kSurely);
  pool.List(HostBlockId(2), CacheRank::kSurely);
  pool.List(HostBlockId(1), CacheRank::kPerhaps);
  EXPECT_EQ(pool.NextVictim(CacheRank::kSurely), HostBlockId(1));
  pool.Claim(HostBlockId(1));
  EXPECT_EQ(pool.NextVictim(CacheRank::kPerhaps), std::nullopt);
  EXPECT_EQ(pool.NextVictim(CacheRank::kSurely), HostBlockId(0));
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(HostPoolDeathTest, WhatMayBeGivenUpIsNotFreedByHand) {
  HostPool pool(1);
  const HostBlockId host = *pool.Allocate(StepPlan());
  pool.List(host, CacheRank::kPerhaps);
  EXPECT_DEATH(pool.Free(host), "is not claimed");
  pool.Claim(host);
  pool.Free(host);
  EXPECT_DEATH(pool.Free(host), "double free of host block 0");
}

}  // namespace
}  // namespace quire
