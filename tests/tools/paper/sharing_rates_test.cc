// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(SharingRatesTest, BeamsGainMoreOverOracleThanOneSequence) {
  const auto output = RunSharingRates({.quick = true, .trace_share = 0.1});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->rows.size(), 4);
  // Half are the paper's machine, half an H200.
  for (int idx : {0, 2}) {
    EXPECT_GT(output->rows[idx].ours, 1.1) << output->rows[idx].what;
    EXPECT_GT(output->rows[idx + 1].ours, output->rows[idx].ours)
        << output->rows[idx + 1].what;
  }
}

}  // namespace
}  // namespace quire
