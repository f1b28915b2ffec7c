// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(SharedPrefixTest, ALongerPrefixGainsMore) {
  const auto output = RunSharedPrefix({.quick = true, .trace_share = 0.3});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->rows.size(), 4);
  for (int idx : {0, 2}) {
    EXPECT_GT(output->rows[idx].ours, 1.2) << output->rows[idx].what;
    EXPECT_GT(output->rows[idx + 1].ours, 1.3 * output->rows[idx].ours)
        << output->rows[idx + 1].what;
  }
}

}  // namespace
}  // namespace quire
