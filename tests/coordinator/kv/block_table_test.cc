// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_table.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(BlockTableTest, AForkSharesTheFirstBlocks) {
  BlockPool pool(/*num_blocks=*/8);
  BlockTable parent, child;
  parent.Append(3, &pool);
  child.ForkFrom(parent, /*num_blocks=*/2, &pool);
  EXPECT_EQ(child.num_blocks(), 2);
  EXPECT_EQ(child.block(1), parent.block(1));
  EXPECT_EQ(pool.num_free(), 5);
  EXPECT_TRUE(parent.IsShared(1, pool));
  EXPECT_FALSE(parent.IsShared(2, pool));
}

TEST(BlockTableTest, AWriterGetsItsOwnCopyAndTheOtherKeepsTheBlock) {
  BlockPool pool(/*num_blocks=*/8);
  BlockTable parent, child;
  parent.Append(2, &pool);
  child.ForkFrom(parent, /*num_blocks=*/2, &pool);
  const BlockId shared = parent.block(1);
  const BlockCopy copy = child.ReplaceShared(1, &pool);
  EXPECT_EQ(copy.src, shared);
  EXPECT_EQ(copy.dst, child.block(1));
  EXPECT_NE(copy.dst, shared);
  EXPECT_EQ(parent.block(1), shared);
  EXPECT_FALSE(parent.IsShared(1, pool));
  EXPECT_TRUE(child.IsShared(0, pool));
}

TEST(BlockTableTest, ClearGivesBackOnlyWhatNobodyElseHolds) {
  BlockPool pool(/*num_blocks=*/4);
  BlockTable parent, child;
  parent.Append(2, &pool);
  child.ForkFrom(parent, /*num_blocks=*/1, &pool);
  parent.Clear(&pool);
  EXPECT_EQ(parent.num_blocks(), 0);
  EXPECT_EQ(pool.num_free(), 3);
  child.Clear(&pool);
  EXPECT_EQ(pool.num_free(), 4);
}

TEST(BlockTableTest, TogglingTwiceLeavesTheDigestAsItWas) {
  BlockPool pool(/*num_blocks=*/4);
  BlockTable table;
  table.Append(3, &pool);
  TableDigest digest;
  table.ToggleAll(SlotId(1), &digest);
  EXPECT_NE(digest.value(), 0);
  TableDigest other_slot;
  table.ToggleAll(SlotId(2), &other_slot);
  EXPECT_NE(digest.value(), other_slot.value());
  table.ToggleAll(SlotId(1), &digest);
  EXPECT_EQ(digest.value(), 0);
}

TEST(BlockTableDeathTest, OnlyASharedBlockIsReplaced) {
  BlockPool pool(/*num_blocks=*/4);
  BlockTable table;
  table.Append(1, &pool);
  EXPECT_DEATH(table.ReplaceShared(0, &pool), "IsShared");
}

}  // namespace
}  // namespace quire
