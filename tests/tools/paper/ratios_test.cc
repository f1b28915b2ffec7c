// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(RatiosTest, EachSystemServesMoreThanTheOneBeforeIt) {
  const auto output = RunRatios({.quick = true, .trace_share = 0.2});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->rows.size(), 12);
  // The knee, then ours over the others, from the best to the worst.
  for (int panel : {0, 6}) {
    double last = 1;
    for (int idx = panel + 1; idx < panel + 6; ++idx) {
      EXPECT_GT(output->rows[idx].ours, last) << output->rows[idx].what;
      last = output->rows[idx].ours;
    }
  }
  // More memory helps those who waste it more.
  EXPECT_LT(output->rows[7].ours, output->rows[1].ours);
}

}  // namespace
}  // namespace quire
