// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/candidates.h"

#include <cmath>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(CandidatesTest, AreDistinctDescendingAndNoMoreThanCertain) {
  for (uint64_t prefix = 0; prefix < 1000; ++prefix) {
    std::vector<TopLogprob> candidates;
    MakeCandidates({}, prefix, 12, &candidates);
    ASSERT_EQ(candidates.size(), 12);
    std::set<TokenId> tokens;
    double sum = 0;
    for (size_t idx = 0; idx < candidates.size(); ++idx) {
      tokens.insert(candidates[idx].token_id);
      sum += std::exp(candidates[idx].logprob);
      if (idx > 0) {
        EXPECT_LE(candidates[idx].logprob, candidates[idx - 1].logprob);
      }
    }
    EXPECT_EQ(tokens.size(), 12);
    // Each exponential of a float is off by 2^-24 of itself.
    EXPECT_LE(sum, 1 + 12 * 0x1p-23);
  }
}

TEST(CandidatesTest, AreAFunctionOfThePrefix) {
  std::vector<TopLogprob> once, again, other;
  MakeCandidates({}, 17, 4, &once);
  MakeCandidates({}, 17, 4, &again);
  MakeCandidates({}, 18, 4, &other);
  EXPECT_EQ(once, again);
  EXPECT_NE(once, other);
}

TEST(CandidatesTest, SharpnessMakesTheLikeliestLikelier) {
  const auto mean = [](double sharpness) {
    double sum = 0;
    std::vector<TopLogprob> candidates;
    for (uint64_t prefix = 0; prefix < 1000; ++prefix) {
      MakeCandidates({.floor = 0.02, .sharpness = sharpness}, prefix, 1,
                     &candidates);
      sum += std::exp(candidates.front().logprob);
    }
    return sum / 1000;
  };
  EXPECT_LT(mean(1), mean(0.25));
}

}  // namespace
}  // namespace quire
