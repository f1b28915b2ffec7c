// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/prefix_match.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;
constexpr CacheScope kScope = 9;

std::vector<TokenId> Prompt(int32_t num_tokens) {
  std::vector<TokenId> prompt(num_tokens);
  std::iota(prompt.begin(), prompt.end(), 1);
  return prompt;
}

// Cached tokens of a prompt of 22 tokens when blocks `present` of five are.
int32_t Count(const std::vector<int32_t>& present, int32_t window = 0,
              int32_t num_tokens = 22) {
  const std::vector<BlockKey> keys =
      PrefixKeys(kScope, Prompt(num_tokens), kBlockSize);
  PrefixSummary summary;
  summary.Reset(16);
  for (int32_t idx : present) summary.Add(keys[idx]);
  return CountCachedTokens(summary.Read(), keys, num_tokens, kBlockSize,
                           window);
}

TEST(PrefixMatchTest, KeysAreOfFullBlocksAndOfAScope) {
  EXPECT_EQ(PrefixKeys(kScope, Prompt(22), kBlockSize).size(), 5u);
  EXPECT_EQ(PrefixKeys(kScope, Prompt(3), kBlockSize).size(), 0u);
  EXPECT_TRUE(PrefixKeys(/*scope=*/0, Prompt(22), kBlockSize).empty());
  EXPECT_NE(PrefixKeys(1, Prompt(4), kBlockSize)[0],
            PrefixKeys(2, Prompt(4), kBlockSize)[0]);
}

TEST(PrefixMatchTest, CountsUpToTheFirstGap) {
  EXPECT_EQ(Count({}), 0);
  EXPECT_EQ(Count({0, 1}), 8);
  EXPECT_EQ(Count({0, 1, 3, 4}), 8);
  EXPECT_EQ(Count({1, 2}), 0);
  EXPECT_EQ(Count({0, 1, 2, 3, 4}), 20);
}

TEST(PrefixMatchTest, TheLastTokenIsAlwaysComputed) {
  EXPECT_EQ(Count({0, 1, 2, 3, 4}, /*window=*/0, /*num_tokens=*/20), 19);
}

TEST(PrefixMatchTest, BehindAWindowNothingNeedBeThere) {
  // After 16 tokens the next one sees tokens 12 to 16: blocks 3 on.
  EXPECT_EQ(Count({3}, /*window=*/5), 16);
  EXPECT_EQ(Count({3}, /*window=*/6), 0);  // token 11 too, of block 2
  EXPECT_EQ(Count({2, 3}, /*window=*/6), 16);
  EXPECT_EQ(Count({0, 2, 3}, /*window=*/9), 16);
  EXPECT_EQ(Count({0, 4}, /*window=*/9), 4);
}

}  // namespace
}  // namespace quire
