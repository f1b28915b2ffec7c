// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/token_counts.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(TokenCountsTest, PromptTokensAreSeenAndOutputsCounted) {
  TokenCounts counts;
  counts.Reset({7, 8, 7, 9, 8}, /*num_prompt=*/3);
  counts.AddOutput(9);
  counts.AddOutput(1);
  const std::vector<SeenToken>& seen = counts.seen();
  ASSERT_EQ(seen.size(), 4);
  const int32_t expected[][2] = {{7, 0}, {8, 1}, {9, 2}, {1, 1}};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(seen[i].token_id, expected[i][0]);
    EXPECT_EQ(seen[i].output_count, expected[i][1]);
  }
  counts.Reset({5}, 0);
  ASSERT_EQ(counts.seen().size(), 1);
  EXPECT_EQ(counts.seen()[0].output_count, 1);
}

TEST(TokenCountsTest, AreNeededForAnyPenaltyAlone) {
  SlotSampling none;
  EXPECT_FALSE(TokenCounts::IsNeeded(none));
  SlotSampling presence, frequency, repetition;
  presence.presence_penalty = -0.1f;
  frequency.frequency_penalty = 0.1f;
  repetition.repetition_penalty = 0.9f;
  for (const auto& one : {presence, frequency, repetition}) {
    EXPECT_TRUE(TokenCounts::IsNeeded(one));
  }
}

}  // namespace
}  // namespace quire
