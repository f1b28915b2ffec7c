// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

// Swap over recompute, rows 0 to 8: a round trip; 9 to 17: latency.
TEST(PreemptionTest, SwappingSmallBlocksIsWorseAndLargeOnesAboutEqual) {
  const auto output = RunPreemption({.quick = true, .trace_share = 0.5});
  ASSERT_TRUE(output.ok()) << output.status();
  const auto& rows = output->rows;
  ASSERT_EQ(rows.size(), 18);
  // Blocks of 1, then of 16, 32 and 64.
  EXPECT_GT(rows[0].ours, 3);
  EXPECT_GT(rows[9].ours, 1.5);
  for (int idx : {4, 5, 6}) {
    EXPECT_LT(rows[idx].ours, 1) << rows[idx].what;
    EXPECT_NEAR(rows[9 + idx].ours, 1, 0.25) << rows[9 + idx].what;
  }
}

TEST(PreemptionTest, RecomputingDoesNotDependOnTheBlockSize) {
  const auto output = RunPreemption({.quick = true, .trace_share = 0.1});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->plots.size(), 2);
  const PlotSeries& recompute = output->plots[0].series[0];
  for (const auto& [block_size, seconds] : recompute.points) {
    EXPECT_DOUBLE_EQ(seconds, recompute.points.front().second) << block_size;
  }
}

}  // namespace
}  // namespace quire
