// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_pool.h"

#include <list>
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

TEST(BlockPoolTest, ACachedBlockIsNeitherFreeNorHeld) {
  BlockPool pool(/*num_blocks=*/2);
  const BlockId block = pool.AllocateOne();
  const uint32_t generation = pool.generation(block);
  pool.Cache(block, CacheRank::kPerhaps);
  EXPECT_EQ(pool.num_refs(block), 0);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.num_cached(), 1);
  EXPECT_EQ(pool.num_available(), 2);
  pool.Revive(block);
  EXPECT_EQ(pool.num_refs(block), 1);
  EXPECT_EQ(pool.generation(block), generation);  // it is still what it was
  pool.Cache(block, CacheRank::kSurely);
  pool.Free(block);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(BlockPoolTest, TheLesserRankGoesFirstThenTheOldest) {
  BlockPool pool(/*num_blocks=*/4);
  std::vector<BlockId> blocks;
  ASSERT_TRUE(pool.Allocate(4, &blocks).ok());
  pool.Cache(blocks[0], CacheRank::kSurely);
  pool.Cache(blocks[1], CacheRank::kPerhaps);
  pool.Cache(blocks[2], CacheRank::kPerhaps);
  pool.Cache(blocks[3], CacheRank::kSurely);
  EXPECT_EQ(pool.NextVictim(), blocks[1]);
  pool.Touch(blocks[1], CacheRank::kPerhaps);
  EXPECT_EQ(pool.NextVictim(), blocks[2]);
  pool.Free(blocks[2]);
  pool.Free(blocks[1]);
  EXPECT_EQ(pool.NextVictim(), blocks[0]);
  pool.Touch(blocks[0], CacheRank::kSurely);
  EXPECT_EQ(pool.NextVictim(), blocks[3]);
}

TEST(BlockPoolDeathTest, OnlyTheLastHolderCaches) {
  BlockPool pool(/*num_blocks=*/1);
  const BlockId block = pool.AllocateOne();
  pool.Ref(block);
  EXPECT_DEATH(pool.Cache(block, CacheRank::kPerhaps), "caching of block 0");
  EXPECT_DEATH(pool.Free(block), "is held");
  pool.Unref(block);
  pool.Unref(block);
  EXPECT_DEATH(pool.Revive(block), "block 0 is free");
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

TEST(BlockPoolTest, AgreesWithCountsAndAListOverRandomOperations) {
  constexpr int kNumBlocks = 37;
  std::mt19937 random(7);
  BlockPool pool(kNumBlocks);
  std::map<BlockId, int> counts;  // the model: of held blocks,
  std::list<BlockId> perhaps;     // and cached ones, oldest first
  std::list<BlockId> surely;
  const auto any = [&random](auto& blocks) {
    auto it = blocks.begin();
    std::advance(it, random() % blocks.size());
    return it;
  };
  for (int operation = 0; operation < 200000; ++operation) {
    const int num_cached = perhaps.size() + surely.size();
    const int num_free = kNumBlocks - counts.size() - num_cached;
    ASSERT_EQ(pool.num_free(), num_free);
    ASSERT_EQ(pool.num_cached(), num_cached);
    if (num_cached > 0) {
      ASSERT_EQ(pool.NextVictim(),
                perhaps.empty() ? surely.front() : perhaps.front());
    }
    const CacheRank rank =
        random() % 2 == 0 ? CacheRank::kPerhaps : CacheRank::kSurely;
    auto& cached = rank == CacheRank::kPerhaps ? perhaps : surely;
    const int kind = random() % 7;
    if (kind == 0) {
      std::vector<BlockId> blocks;
      const int n = random() % 6;
      ASSERT_EQ(pool.Allocate(n, &blocks).ok(), n <= num_free);
      for (BlockId block : blocks) ASSERT_EQ(counts[block]++, 0);
    } else if (kind <= 3 && !counts.empty()) {
      const auto it = any(counts);
      if (kind == 1) {
        pool.Ref(it->first);
        ++it->second;
      } else if (it->second > 1 || kind == 2) {
        pool.Unref(it->first);
        if (--it->second == 0) counts.erase(it);
      } else {
        pool.Cache(it->first, rank);
        cached.push_back(it->first);
        counts.erase(it);
      }
    } else if (kind >= 4 && !cached.empty()) {
      const auto it = any(cached);
      const BlockId block = *it;
      cached.erase(it);
      if (kind == 4) {
        pool.Revive(block);
        counts[block] = 1;
      } else if (kind == 5) {
        pool.Free(block);
      } else {
        pool.Touch(block, CacheRank::kSurely);
        surely.push_back(block);
      }
    }
  }
  EXPECT_TRUE(pool.CheckInvariants().ok());
  for (const auto& [block, count] : counts) {
    EXPECT_EQ(pool.num_refs(block), count);
    for (int i = 0; i < count; ++i) pool.Unref(block);
  }
  EXPECT_EQ(pool.num_available(), kNumBlocks);
  while (pool.num_cached() > 0) pool.Free(pool.NextVictim());
  EXPECT_EQ(pool.num_free(), kNumBlocks);
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

}  // namespace
}  // namespace quire
