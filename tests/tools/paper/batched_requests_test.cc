// SPDX-License-Identifier: Apache-2.0
//
// Deterministic: nothing here depends on how fast the machine is.
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(BatchedRequestsTest, AreWithinTenPercentOfThePapers) {
  const auto output = RunBatchedRequests({.quick = true});
  ASSERT_TRUE(output.ok()) << output.status();
  int num_printed = 0;
  for (const PaperRow& row : output->rows) {
    if (!row.paper.has_value()) continue;
    ++num_printed;
    EXPECT_NEAR(row.ours / *row.paper, 1, 0.1) << row.what;
  }
  EXPECT_EQ(num_printed, 8);
}

}  // namespace
}  // namespace quire
