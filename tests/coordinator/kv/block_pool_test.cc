// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_pool.h"

#include <map>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(BlockPoolTest, HandsOutEachBlockOnce) {
  BlockPool pool(/*num_blocks=*/5);
  std::vector<BlockId> blocks;
  ASSERT_TRUE(pool.Allocate(5, &blocks).ok());
  EXPECT_EQ(std::set<BlockId>(blocks.begin(), blocks.end()).size(), 5);
  EXPECT_EQ(blocks.front(), BlockId(0));
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(BlockPoolTest, AllocateIsAllOrNothing) {
  BlockPool pool(/*num_blocks=*/3);
  std::vector<BlockId> blocks;
  ASSERT_TRUE(pool.Allocate(2, &blocks).ok());
  const absl::Status status = pool.Allocate(2, &blocks);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "want 2 KV blocks, have 1 free of 3");
  EXPECT_EQ(pool.num_free(), 1);  // the failed call took nothing
  EXPECT_EQ(blocks.size(), 2);
}

TEST(BlockPoolTest, ABlockIsFreeWhenItsLastHolderLeaves) {
  BlockPool pool(/*num_blocks=*/1);
  const BlockId block = pool.AllocateOne();
  pool.Ref(block);
  pool.Unref(block);
  EXPECT_EQ(pool.num_free(), 0);
  EXPECT_EQ(pool.num_refs(block), 1);
  pool.Unref(block);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(BlockPoolTest, TheBlockFreedLastIsReusedFirst) {
  BlockPool pool(/*num_blocks=*/4);
  std::vector<BlockId> blocks;
  ASSERT_TRUE(pool.Allocate(3, &blocks).ok());
  pool.Unref(blocks[0]);
  pool.Unref(blocks[2]);
  EXPECT_EQ(pool.AllocateOne(), blocks[2]);
}

TEST(BlockPoolTest, AGenerationTellsLivesOfABlockApart) {
  BlockPool pool(/*num_blocks=*/1);
  const BlockId block = pool.AllocateOne();
  const uint32_t first_life = pool.generation(block);
  pool.Ref(block);
  EXPECT_EQ(pool.generation(block), first_life);
  pool.Unref(block);
  pool.Unref(block);
  ASSERT_EQ(pool.AllocateOne(), block);
  EXPECT_NE(pool.generation(block), first_life);
}

TEST(BlockPoolDeathTest, DoubleFreeIsABug) {
  BlockPool pool(/*num_blocks=*/1);
  const BlockId block = pool.AllocateOne();
  pool.Unref(block);
  EXPECT_DEATH(pool.Unref(block), "double free of block 0");
}

TEST(BlockPoolDeathTest, AReferenceToAFreeBlockIsABug) {
  BlockPool pool(/*num_blocks=*/1);
  EXPECT_DEATH(pool.Ref(BlockId(0)), "reference to free block 0");
}

TEST(BlockPoolDeathTest, ABlockThatDoesNotExistIsABug) {
  BlockPool pool(/*num_blocks=*/1);
  EXPECT_DEATH(pool.Unref(BlockId(1)), "Check failed");
  EXPECT_DEATH(pool.Unref(BlockId(-1)), "Check failed");
}

TEST(BlockPoolTest, AgreesWithACountPerBlockOverRandomOperations) {
  constexpr int kNumBlocks = 37;
  std::mt19937 random(7);
  BlockPool pool(kNumBlocks);
  std::map<BlockId, int> counts;  // the model
  for (int operation = 0; operation < 200000; ++operation) {
    const int kind = random() % 4;
    if (kind == 0) {
      std::vector<BlockId> blocks;
      const int n = random() % 6;
      const bool fits = n <= kNumBlocks - static_cast<int>(counts.size());
      ASSERT_EQ(pool.Allocate(n, &blocks).ok(), fits);
      for (BlockId block : blocks) ASSERT_EQ(counts[block]++, 0);
    } else if (!counts.empty()) {
      auto it = counts.begin();
      std::advance(it, random() % counts.size());
      if (kind == 1) {
        pool.Ref(it->first);
        ++it->second;
      } else {
        pool.Unref(it->first);
        if (--it->second == 0) counts.erase(it);
      }
    }
    ASSERT_EQ(pool.num_free(), kNumBlocks - static_cast<int>(counts.size()));
  }
  EXPECT_TRUE(pool.CheckInvariants().ok());
  for (const auto& [block, count] : counts) {
    EXPECT_EQ(pool.num_refs(block), count);
    for (int i = 0; i < count; ++i) pool.Unref(block);
  }
  EXPECT_EQ(pool.num_free(), kNumBlocks);
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

}  // namespace
}  // namespace quire
