// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/buddy_allocator.h"

#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(BuddyAllocatorTest, RangesAreTheNextPowerOfTwo) {
  EXPECT_EQ(BuddyAllocator::RangeSize(1), 1);
  EXPECT_EQ(BuddyAllocator::RangeSize(2), 2);
  EXPECT_EQ(BuddyAllocator::RangeSize(3), 4);
  EXPECT_EQ(BuddyAllocator::RangeSize(128), 128);
  EXPECT_EQ(BuddyAllocator::RangeSize(129), 256);
}

TEST(BuddyAllocatorTest, APoolOfAnySizeIsCutIntoItsLargestParts) {
  BuddyAllocator buddy(13);
  EXPECT_EQ(buddy.num_free(), 13);
  EXPECT_EQ(buddy.largest_free(), 8);
  EXPECT_EQ(BuddyAllocator::LargestRange(13), 8);
  EXPECT_EQ(buddy.Allocate(5)->value(), 0);
  EXPECT_EQ(buddy.Allocate(4)->value(), 8);
  EXPECT_EQ(buddy.Allocate(1)->value(), 12);
  EXPECT_EQ(buddy.num_free(), 0);
  EXPECT_EQ(buddy.largest_free(), 0);
  EXPECT_TRUE(buddy.CheckInvariants().ok());
}

TEST(BuddyAllocatorTest, ThePaperPoolHoldsSevenOfTheLongest) {
  // OPT-13B on an A100-40G: 15.7K slots are 981 blocks of 16 tokens.
  BuddyAllocator buddy(981);
  int num_ranges = 0;
  while (buddy.Allocate(2048 / 16).ok()) ++num_ranges;
  EXPECT_EQ(num_ranges, 7);
}

TEST(BuddyAllocatorTest, BlocksThatAreFreeButApartAreNoRange) {
  BuddyAllocator buddy(4);
  std::vector<BlockId> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(*buddy.Allocate(1));
  buddy.Free(blocks[1]);
  buddy.Free(blocks[2]);  // neighbours, but not halves of one whole
  const absl::Status status = buddy.Allocate(2).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "want 2 KV blocks in a row, have 2 free, 1 of them in a row");
  buddy.Free(blocks[0]);
  EXPECT_EQ(buddy.Allocate(2)->value(), 0);
}

TEST(BuddyAllocatorTest, HalvesBecomeAWholeAgain) {
  BuddyAllocator buddy(16);
  std::vector<BlockId> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(*buddy.Allocate(1));
  for (BlockId block : blocks) buddy.Free(block);
  EXPECT_EQ(buddy.largest_free(), 16);
  EXPECT_TRUE(buddy.CheckInvariants().ok());
}

TEST(BuddyAllocatorDeathTest, ADoubleFreeIsABug) {
  BuddyAllocator buddy(4);
  const BlockId block = *buddy.Allocate(2);
  buddy.Free(block);
  EXPECT_DEATH(buddy.Free(block), "no range is allocated at block 0");
}

// What the buddy system means, without its lists: a range may be given where
// it is aligned, lies inside the pool and meets no other.
class NaiveBuddy {
 public:
  explicit NaiveBuddy(int32_t num_blocks) : taken_(num_blocks) {}

  bool CanGive(int32_t size) const {
    for (int32_t first = 0; first + size <= NumBlocks(); first += size) {
      if (IsFree(first, size)) return true;
    }
    return false;
  }
  bool IsFree(int32_t first, int32_t size) const {
    if (first < 0 || first % size != 0 || first + size > NumBlocks()) {
      return false;
    }
    for (int32_t block = first; block < first + size; ++block) {
      if (taken_[block]) return false;
    }
    return true;
  }
  void Set(int32_t first, int32_t size, bool taken) {
    for (int32_t block = first; block < first + size; ++block) {
      taken_[block] = taken;
    }
  }
  int32_t NumFree() const {
    int32_t num = 0;
    for (bool taken : taken_) num += !taken;
    return num;
  }

 private:
  int32_t NumBlocks() const { return static_cast<int32_t>(taken_.size()); }

  std::vector<bool> taken_;
};

TEST(BuddyAllocatorTest, IsTheNaiveModelOverRandomOperations) {
  for (int32_t num_blocks : {1, 2, 13, 64, 100, 127}) {
    std::mt19937 random(num_blocks);
    BuddyAllocator buddy(num_blocks);
    NaiveBuddy naive(num_blocks);
    std::map<int32_t, int32_t> ranges;  // first to size
    for (int operation = 0; operation < 200000; ++operation) {
      if (random() % 2 == 0) {
        const int32_t wanted = 1 + random() % (1 + num_blocks / 3);
        const int32_t size = BuddyAllocator::RangeSize(wanted);
        const absl::StatusOr<BlockId> first = buddy.Allocate(wanted);
        ASSERT_EQ(first.ok(), naive.CanGive(size)) << size;
        if (!first.ok()) continue;
        ASSERT_TRUE(naive.IsFree(first->value(), size));
        naive.Set(first->value(), size, true);
        ASSERT_EQ(buddy.SizeAt(*first), size);
        ranges[first->value()] = size;
      } else if (!ranges.empty()) {
        const auto it = std::next(ranges.begin(), random() % ranges.size());
        buddy.Free(BlockId(it->first));
        naive.Set(it->first, it->second, false);
        ranges.erase(it);
      }
      if (operation % 1000 == 0) {
        ASSERT_TRUE(buddy.CheckInvariants().ok()) << buddy.CheckInvariants();
        ASSERT_EQ(buddy.num_free(), naive.NumFree());
      }
    }
    for (const auto& [first, size] : ranges) buddy.Free(BlockId(first));
    EXPECT_EQ(buddy.num_free(), num_blocks);
    EXPECT_EQ(buddy.largest_free(), BuddyAllocator::LargestRange(num_blocks));
    EXPECT_TRUE(buddy.CheckInvariants().ok());
  }
}

}  // namespace
}  // namespace quire
