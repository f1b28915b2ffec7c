// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(MemoryUseTest, AtItsLimitPagingFillsThePoolWithTokens) {
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

// To 5 points: the paper's lengths are not ours, only their means are.
TEST(MemoryUseTest, WhatReservingWastesIsWhatThePaperSays) {
  const auto output = RunMemoryUse({.quick = true});
  ASSERT_TRUE(output.ok()) << output.status();
  int num_printed = 0;
  for (const PaperRow& row : output->rows) {
    if (!row.paper.has_value()) continue;
    ++num_printed;
    EXPECT_NEAR(row.ours, *row.paper, 5) << row.what;
  }
  EXPECT_EQ(num_printed, 13);
}

}  // namespace
}  // namespace quire
