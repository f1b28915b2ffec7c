// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_plan.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// Of an H200.
constexpr TileClusters kPairs = {kPairOfTiles, 66, 0};
constexpr TileClusters kMixed = {kEightTiles, 15, 6};

// How often each piece of each tile is dealt: [row tiles, token tiles, pieces].
class Deals {
 public:
  Deals(const TileProblem& problem, const ProductPlan& plan)
      : pieces_(plan.first.pieces_per_tile),
        row_tiles_(plan.first.row_units * problem.clusters.shape.row_tiles),
        token_tiles_(plan.first.token_units *
                     problem.clusters.shape.token_tiles),
        times_(int64_t{row_tiles_} * token_tiles_ * pieces_) {
    Add(plan.first);
    if (plan.second.num_clusters > 0) Add(plan.second);
  }

  int32_t row_tiles() const { return row_tiles_; }
  int32_t token_tiles() const { return token_tiles_; }
  const std::vector<int32_t>& times() const { return times_; }

 private:
  // As the kernel does.
  void Add(const TilePlan& plan) {
    const auto begin_of = [&](int32_t i) {
      return i * plan.pieces_per_cluster + std::min(i, plan.longer_clusters);
    };
    for (int32_t cluster = 0; cluster < plan.num_clusters; ++cluster) {
      for (int32_t i = begin_of(cluster); i < begin_of(cluster + 1); ++i) {
        AddPiece(plan, plan.first_part + plan.whole_parts + i / pieces_,
                 i % pieces_);
      }
      for (int32_t part = cluster; part < plan.whole_parts;
           part += plan.num_clusters) {
        for (int32_t i = 0; i < pieces_; ++i) {
          AddPiece(plan, plan.first_part + part, i);
        }
      }
    }
  }

  void AddPiece(const TilePlan& plan, int32_t part, int32_t piece) {
    const int32_t parts = plan.row_parts * plan.token_parts;
    const int32_t in_group = plan.units_together * plan.row_units;
    const int32_t unit = part / parts, group = unit / in_group;
    const int32_t width = std::min(
        plan.units_together, plan.token_units - group * plan.units_together);
    const int32_t row = unit % in_group / width * plan.row_parts +
                        part % parts / plan.token_parts;
    const int32_t token =
        (group * plan.units_together + unit % in_group % width) *
            plan.token_parts +
        part % plan.token_parts;
    for (int32_t i = 0; i < plan.shape.row_tiles; ++i) {
      for (int32_t j = 0; j < plan.shape.token_tiles; ++j) {
        const int32_t row_tile = row * plan.shape.row_tiles + i;
        const int32_t token_tile = token * plan.shape.token_tiles + j;
        ASSERT_LT(row_tile, row_tiles_);
        ASSERT_LT(token_tile, token_tiles_);
        ++times_[(int64_t{row_tile} * token_tiles_ + token_tile) * pieces_ +
                 piece];
      }
    }
  }

  const int32_t pieces_, row_tiles_, token_tiles_;
  std::vector<int32_t> times_;
};

class TilePlanDealTest : public testing::TestWithParam<TileClusters> {};

TEST_P(TilePlanDealTest, DealsEveryPieceOnce) {
  for (int64_t m : {1, 65, 129, 257, 841, 1920}) {
    for (int64_t n : {16, 272, 4096, 6144, 28672}) {
      for (int64_t k : {8, 4096, 14336}) {
        for (bool may_split : {false, true}) {
          const TileProblem problem = {m, n, k, GetParam(), may_split};
          const ProductPlan plan = PlanTiles(problem);
          SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k);
          EXPECT_GE(plan.tokens, kMinTileTokens);
          EXPECT_LE(plan.tokens, kMaxTileTokens);
          EXPECT_EQ(plan.tokens % kTileTokensStep, 0);
          EXPECT_LE(plan.first.num_clusters, GetParam().num);
          EXPECT_LE(plan.second.num_clusters, GetParam().num_pairs);
          const Deals deals(problem, plan);
          EXPECT_GE(int64_t{deals.token_tiles()} * plan.tokens, m);
          EXPECT_GE(int64_t{deals.row_tiles()} * kTileRows, n);
          const std::vector<int32_t>& times = deals.times();
          EXPECT_EQ(std::count(times.begin(), times.end(), 1), times.size());
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, TilePlanDealTest,
                         testing::Values(kPairs, kMixed,
                                         TileClusters{kEightTiles, 16, 0},
                                         TileClusters{kEightTiles, 2, 1},
                                         TileClusters{kEightTiles, 1, 7}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.num, "Of",
                                               info.param.shape.blocks(), "And",
                                               info.param.num_pairs);
                         });

TEST(TilePlanTest, FitsTilesToTheNumberOfTokens) {
  // 7.5 tiles of 256 tokens would be computed as eight.
  EXPECT_EQ(PlanTiles({1920, 6144, 4096, kPairs, false}).tokens, 240);
  EXPECT_EQ(PlanTiles({1920, 6144, 4096, kMixed, false}).tokens, 240);
}

TEST(TilePlanTest, SplitsOnlyWhereItMay) {
  // 16 pairs of tiles leave 50 of 66 clusters without work.
  const TilePlan split = PlanTiles({256, 4096, 14336, kPairs, true}, 256).first;
  EXPECT_EQ(split.whole_parts, 0);
  EXPECT_GT(split.num_clusters, 16);
  const TilePlan whole =
      PlanTiles({256, 4096, 14336, kPairs, false}, 256).first;
  EXPECT_EQ(whole.whole_parts, 16);
  EXPECT_EQ(whole.num_clusters, 16);
}

TEST(TilePlanTest, BothLaunchesEndAtTheSameTime) {
  const ProductPlan plan = PlanTiles({1920, 28672, 4096, kMixed, true});
  // 6 of 66 pairs of multiprocessors get 81 of 896 pairs of tiles, and a little
  // less since they begin later.
  const int32_t units = plan.first.row_units * plan.first.token_units;
  const int32_t second = units * 4 - plan.second.first_part;
  EXPECT_LE(second, 81);
  EXPECT_GE(second, 76);
}

TEST(TilePlanTest, AFewTilesAreOneLaunch) {
  const ProductPlan plan = PlanTiles({333, 6144, 4096, kMixed, true});
  EXPECT_EQ(plan.first.num_clusters, 12);
  EXPECT_EQ(plan.second.num_clusters, 0);
}

}  // namespace
}  // namespace quire
