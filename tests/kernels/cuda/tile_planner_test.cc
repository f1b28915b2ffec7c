// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/tile_planner.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

// Of an H200.
constexpr TileClusters kMixed = {kEightTiles, 15, 6};

void ExpectPlanOf(const ProductPlan& plan, int64_t m, int64_t n, int64_t k,
                  bool may_split) {
  const ProductPlan want = PlanTiles(
      {.m = m, .n = n, .k = k, .clusters = kMixed, .may_split = may_split});
  EXPECT_EQ(plan.tokens, want.tokens);
  EXPECT_EQ(plan.cost, want.cost);
  EXPECT_EQ(plan.first.row_units, want.first.row_units);
  EXPECT_EQ(plan.first.pieces_per_tile, want.first.pieces_per_tile);
  EXPECT_EQ(plan.first.whole_parts, want.first.whole_parts);
  EXPECT_EQ(plan.second.num_clusters, want.second.num_clusters);
}

TEST(TilePlannerTest, EveryProductGetsItsOwnPlan) {
  for (const bool may_split : {false, true}) {
    TilePlanner planner(kMixed, may_split);
    // Layers, then steps of other sizes, and the first again.
    for (const int64_t m : {1920, 1920, 512, 4096, 1920}) {
      ExpectPlanOf(planner.PlanOf(m, 28672, 4096), m, 28672, 4096, may_split);
      ExpectPlanOf(planner.PlanOf(m, 4096, 14336), m, 4096, 14336, may_split);
      ExpectPlanOf(planner.PlanOf(m, 4096, 4096), m, 4096, 4096, may_split);
    }
  }
}

TEST(TilePlannerTest, LayersShareAPlan) {
  TilePlanner planner(kMixed, /*may_split=*/true);
  const ProductPlan* const first = &planner.PlanOf(1920, 28672, 4096);
  const ProductPlan* const second = &planner.PlanOf(1920, 4096, 4096);
  EXPECT_NE(second, first);  // or it would be where the first was
  EXPECT_EQ(&planner.PlanOf(1920, 28672, 4096), first);
  EXPECT_EQ(&planner.PlanOf(1920, 4096, 4096), second);
}

}  // namespace
}  // namespace quire
