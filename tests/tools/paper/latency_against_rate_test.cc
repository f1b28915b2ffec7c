// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(LatencyAgainstRateTest, PagingServesMoreThanAnyReservation) {
  const auto output =
      RunLatencyAgainstRate({.quick = true, .trace_share = 0.1});
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->plots.size(), 2);
  int num_ratios = 0;
  for (const PaperRow& row : output->rows) {
    if (row.unit != Unit::kRatio) continue;
    ++num_ratios;
    EXPECT_GT(row.ours, 1) << row.what;
  }
  EXPECT_EQ(num_ratios, 8);
}

}  // namespace
}  // namespace quire
