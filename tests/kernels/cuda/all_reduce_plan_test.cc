// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/all_reduce_plan.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// [begin, end) of an inbox's half.
using Range = std::pair<int64_t, int64_t>;

void ExpectApart(std::vector<Range> ranges) {
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 0; i < ranges.size(); ++i) {
    EXPECT_GE(ranges[i].first, i == 0 ? 0 : ranges[i - 1].second);
    EXPECT_LE(ranges[i].second, kInboxHalf);
    EXPECT_EQ(ranges[i].first % kVectorBytes, 0);
  }
}

TEST(AllReducePlanTest, SendersHavePlacesOfTheirOwn) {
  for (int32_t world : {2, 4, 8}) {
    std::vector<Range> one_shot, two_shot;
    const int64_t vectors = MaxTwoShotBytes() / kVectorBytes;
    for (int32_t sender = 0; sender < world; ++sender) {
      const int64_t first = OneShotOffset(world, sender);
      one_shot.push_back({first, first + MaxOneShotBytes(world)});
      // The longest message: whose slice is longest is rank 0.
      const int64_t bytes = SliceOf(vectors, 0, world).size() * kVectorBytes;
      const int64_t part = PartOffset(world, sender);
      const int64_t sum = SumOffset(world, sender);
      two_shot.push_back({part, part + bytes});
      two_shot.push_back({sum, sum + bytes});
    }
    ExpectApart(one_shot);
    ExpectApart(two_shot);
  }
}

TEST(AllReducePlanTest, SlicesCoverAMessageOnce) {
  for (int32_t world : {2, 4, 8}) {
    for (int64_t vectors : {0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 1000, 524288}) {
      int64_t next = 0;
      for (int32_t rank = 0; rank < world; ++rank) {
        const VectorSlice slice = SliceOf(vectors, rank, world);
        EXPECT_EQ(slice.begin, next);
        EXPECT_LE(slice.size(), SliceOf(vectors, 0, world).size());
        next = slice.end;
      }
      EXPECT_EQ(next, vectors);
    }
  }
}

// A rank that has nothing to add up in two shots sends nothing in the second,
// and its peers could be two calls ahead of it.
TEST(AllReducePlanTest, EveryRankHasASliceOfTwoShots) {
  for (int32_t world : {2, 4, 8}) {
    for (int64_t more = 0; more < 200; ++more) {
      const int64_t vectors = MinTwoShotVectors(world) + more;
      EXPECT_GT(SliceOf(vectors, world - 1, world).size(), 0)
          << world << " " << vectors;
    }
  }
}

}  // namespace
}  // namespace quire
