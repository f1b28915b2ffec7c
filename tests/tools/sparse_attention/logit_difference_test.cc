// SPDX-License-Identifier: Apache-2.0
#include "tools/sparse_attention/logit_difference.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(LogitDifferenceTest, EqualLogitsDifferInNothing) {
  LogitDifference difference;
  const std::vector<float> logits = {1, -2, 30, 4};
  difference.Add(logits, logits);
  EXPECT_EQ(difference.num_rows(), 1);
  EXPECT_EQ(difference.max(), 0);
  EXPECT_EQ(difference.mean(), 0);
  EXPECT_EQ(difference.mean_kl(), 0);
  EXPECT_EQ(difference.top_agreement(), 1);
}

TEST(LogitDifferenceTest, RowsAddUp) {
  LogitDifference difference;
  const std::vector<float> even = {0, 0}, three_to_one = {std::log(3.0f), 0};
  difference.Add(three_to_one, even);
  difference.Add(even, even);
  EXPECT_EQ(difference.num_rows(), 2);
  EXPECT_FLOAT_EQ(difference.max(), std::log(3.0f));
  EXPECT_FLOAT_EQ(difference.mean(), std::log(3.0f) / 4);
  // 3/4 log(3/4 / (1/2)) + 1/4 log(1/4 / (1/2)), and a row of 0. Logits are
  // rounded to float: 2^-24 log 3.
  EXPECT_NEAR(difference.mean_kl(),
              (0.75 * std::log(1.5) + 0.25 * std::log(0.5)) / 2, 1e-7);
  EXPECT_EQ(difference.top_agreement(), 1);
}

TEST(LogitDifferenceTest, ALevelThatAllLogitsShareIsNoDivergence) {
  LogitDifference difference;
  difference.Add(std::vector<float>{500, 501, 499},
                 std::vector<float>{-500, -499, -501});
  EXPECT_EQ(difference.max(), 1000);
  EXPECT_NEAR(difference.mean_kl(), 0, 1e-9);
}

TEST(LogitDifferenceTest, AnotherLikeliestTokenIsNoAgreement) {
  LogitDifference difference;
  difference.Add(std::vector<float>{1, 2}, std::vector<float>{2, 1});
  EXPECT_EQ(difference.top_agreement(), 0);
}

}  // namespace
}  // namespace quire
