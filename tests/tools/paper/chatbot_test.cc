// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "gtest/gtest.h"
#include "tools/paper/figures.h"

namespace quire {
namespace {

TEST(ChatbotTest, AllReservationsAreAlikeAndBehind) {
  const auto output = RunChatbot({.quick = true, .trace_share = 0.3});
  ASSERT_TRUE(output.ok()) << output.status();
  ASSERT_EQ(output->rows.size(), 6);
  for (const PaperRow& row : output->rows) {
    EXPECT_GT(row.ours, 1.25) << row.what;
    // A pool of 15.7K slots holds 7 reservations of 2,048 and 12 requests of
    // 1,024 and half an output.
    EXPECT_LT(row.ours, 12. / 7) << row.what;
  }
  EXPECT_EQ(output->plots.size(), 1);
}

}  // namespace
}  // namespace quire
