// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_plan.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kClusters = 66;  // of an H200

// Every piece of every pair of tiles is one cluster's, as the kernel deals
// them.
void ExpectAllDealtOnce(const TilePlan& plan) {
  const int32_t pairs = plan.token_tiles * plan.row_pairs;
  std::vector<int32_t> dealt(int64_t{pairs} * plan.pieces_per_tile);
  for (int32_t cluster = 0; cluster < plan.num_clusters; ++cluster) {
    const auto begin_of = [&](int32_t i) {
      return plan.whole_pairs * plan.pieces_per_tile +
             i * plan.pieces_per_cluster + std::min(i, plan.longer_clusters);
    };
    for (int32_t i = begin_of(cluster); i < begin_of(cluster + 1); ++i) {
      ASSERT_LT(i, dealt.size());
      ++dealt[i];
    }
    for (int32_t pair = cluster; pair < plan.whole_pairs;
         pair += plan.num_clusters) {
      for (int32_t i = 0; i < plan.pieces_per_tile; ++i) {
        ++dealt[pair * plan.pieces_per_tile + i];
      }
    }
  }
  for (int32_t times : dealt) ASSERT_EQ(times, 1);
}

TEST(TilePlanTest, DealsEveryPieceOnce) {
  for (int64_t m : {1, 65, 129, 257, 841, 1920}) {
    for (int64_t n : {16, 272, 4096, 6144, 28672}) {
      for (int64_t k : {8, 4096, 14336}) {
        for (bool may_split : {false, true}) {
          const TileProblem problem = {m, n, k, kClusters, may_split};
          const int32_t tokens = ChooseTileTokens(problem);
          SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k);
          EXPECT_GE(tokens, kMinTileTokens);
          EXPECT_LE(tokens, kMaxTileTokens);
          EXPECT_EQ(tokens % kTileTokensStep, 0);
          const TilePlan plan = PlanTiles(problem, tokens);
          EXPECT_LE(plan.num_clusters, kClusters);
          EXPECT_GE(int64_t{plan.token_tiles} * tokens, m);
          ExpectAllDealtOnce(plan);
        }
      }
    }
  }
}

TEST(TilePlanTest, FitsTilesToTheNumberOfTokens) {
  // 7.5 tiles of 256 tokens would be computed as eight.
  EXPECT_EQ(ChooseTileTokens({1920, 6144, 4096, kClusters, false}), 240);
}

TEST(TilePlanTest, SplitsOnlyWhereItMay) {
  // 16 pairs of tiles leave 50 of 66 clusters without work.
  const TilePlan split = PlanTiles({256, 4096, 14336, kClusters, true}, 256);
  EXPECT_EQ(split.whole_pairs, 0);
  EXPECT_GT(split.num_clusters, 16);
  const TilePlan whole = PlanTiles({256, 4096, 14336, kClusters, false}, 256);
  EXPECT_EQ(whole.whole_pairs, 16);
  EXPECT_EQ(whole.num_clusters, 16);
}

}  // namespace
}  // namespace quire
