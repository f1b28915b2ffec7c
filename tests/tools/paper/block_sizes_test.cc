// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

// Of one block size to the next: falls to the best and rises from there.
void ExpectOneValley(const std::vector<PaperRow>& rows, size_t begin) {
  constexpr size_t kNumSizes = 9;
  size_t best = begin;
  for (size_t idx = begin; idx < begin + kNumSizes; ++idx) {
    if (rows[idx].ours < rows[best].ours) best = idx;
  }
  // Of 16, 32, 64 or 128 tokens.
  EXPECT_GE(best, begin + 4);
  EXPECT_LE(best, begin + 7);
  EXPECT_GT(rows[begin].ours, 2);
  EXPECT_GT(rows[begin + kNumSizes - 1].ours, 1.1);
}

TEST(BlockSizesTest, TheBestAreNeitherTheSmallestNorTheLargest) {
  const auto output = RunBlockSizes({.quick = true, .trace_share = 0.5});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->rows.size(), 18);
  ExpectOneValley(output->rows, 0);
  ExpectOneValley(output->rows, 9);
}

}  // namespace
}  // namespace quire
