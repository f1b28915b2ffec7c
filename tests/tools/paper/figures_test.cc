// SPDX-License-Identifier: Apache-2.0
//
// The paper's numbers that a simulation must meet. Deterministic: nothing here
// depends on how fast the machine is.
#include "tools/paper/figures.h"

#include <cmath>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(FiguresTest, BatchedRequestsAreWithinTenPercentOfThePapers) {
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

TEST(FiguresTest, AtItsLimitPagingFillsThePoolWithTokens) {
  const auto output = RunMemoryUse({.quick = true});
  ASSERT_TRUE(output.ok()) << output.status();
  bool found = false;
  for (const PaperRow& row : output->rows) {
    if (row.what != "Quire, KV token states") continue;
    found = true;
    EXPECT_GE(row.ours, 96.5);
  }
  EXPECT_TRUE(found);
}

TEST(FiguresTest, NamesDiffer) {
  std::set<std::string> names;
  for (const Figure& figure : Figures()) names.insert(figure.name);
  EXPECT_EQ(names.size(), Figures().size());
}

}  // namespace
}  // namespace quire
