// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_table.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

BlockTable Table(int32_t num_blocks) {
  BlockTable table;
  for (int32_t i = 0; i < num_blocks; ++i) table.Append(BlockId(10 + i));
  return table;
}

TEST(BlockTableTest, AForkStartsAsTheFirstBlocks) {
  const BlockTable parent = Table(3);
  BlockTable child;
  child.ForkFrom(parent, /*num_blocks=*/2);
  EXPECT_EQ(child.num_blocks(), 2);
  EXPECT_EQ(child.block(1), parent.block(1));
}

TEST(BlockTableTest, AWriterGetsItsOwnCopyAndTheOtherKeepsTheBlock) {
  const BlockTable parent = Table(2);
  BlockTable child;
  child.ForkFrom(parent, /*num_blocks=*/2);
  const BlockCopy copy = child.Replace(1, BlockId(5));
  EXPECT_EQ(copy.src, BlockId(11));
  EXPECT_EQ(copy.dst, BlockId(5));
  EXPECT_EQ(child.block(1), BlockId(5));
  EXPECT_EQ(parent.block(1), BlockId(11));
}

TEST(BlockTableTest, DroppedEntriesStayButAreNotLive) {
  BlockTable table = Table(4);
  TableDigest before;
  table.ToggleAll(SlotId(1), &before);
  table.DropBefore(3);
  EXPECT_EQ(table.num_blocks(), 4);
  EXPECT_EQ(table.num_dropped(), 3);
  ASSERT_EQ(table.live().size(), 1);
  EXPECT_EQ(table.live()[0], BlockId(13));
  TableDigest after;
  table.ToggleAll(SlotId(1), &after);
  EXPECT_EQ(before.value(), after.value());
  BlockTable child;
  child.ForkFrom(table, /*num_blocks=*/4);
  EXPECT_EQ(child.num_dropped(), 3);
  table.Clear();
  EXPECT_EQ(table.num_dropped(), 0);
}

TEST(BlockTableTest, TogglingTwiceLeavesTheDigestAsItWas) {
  const BlockTable table = Table(3);
  TableDigest digest;
  table.ToggleAll(SlotId(1), &digest);
  EXPECT_NE(digest.value(), 0);
  TableDigest other_slot;
  table.ToggleAll(SlotId(2), &other_slot);
  EXPECT_NE(digest.value(), other_slot.value());
  table.ToggleAll(SlotId(1), &digest);
  EXPECT_EQ(digest.value(), 0);
}

TEST(BlockTableDeathTest, ADroppedEntryIsNotReplaced) {
  BlockTable table = Table(2);
  table.DropBefore(1);
  EXPECT_DEATH(table.Replace(0, BlockId(5)), "Check failed");
  EXPECT_DEATH(table.DropBefore(0), "Check failed");
}

}  // namespace
}  // namespace quire
