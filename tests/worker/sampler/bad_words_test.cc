// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/bad_words.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int32_t> Masked(const std::vector<std::vector<TokenId>>& words,
                            const std::vector<TokenId>& output) {
  std::vector<int32_t> masked;
  AppendBadTokens(words, output, &masked);
  return masked;
}

TEST(BadWordsTest, AWordOfOneTokenIsAlwaysBad) {
  EXPECT_THAT(Masked({{5}, {7}}, {}), ElementsAre(5, 7));
  EXPECT_THAT(Masked({{5}}, {1, 2, 3}), ElementsAre(5));
}

TEST(BadWordsTest, ALongerWordsLastTokenIsBadAfterTheOthers) {
  const std::vector<std::vector<TokenId>> words = {{1, 2, 3}, {2, 4}, {9, 9}};
  EXPECT_THAT(Masked(words, {}), IsEmpty());
  EXPECT_THAT(Masked(words, {2}), ElementsAre(4));
  EXPECT_THAT(Masked(words, {1, 2}), ElementsAre(3, 4));
  EXPECT_THAT(Masked(words, {1, 2, 8}), IsEmpty());
  EXPECT_THAT(Masked(words, {9}), ElementsAre(9));
}

TEST(BadWordsTest, WhatIsMaskedJoinsWhatWas) {
  std::vector<int32_t> masked = {42};
  AppendBadTokens(std::vector<std::vector<TokenId>>{{5}}, {}, &masked);
  EXPECT_THAT(masked, ElementsAre(42, 5));
}

}  // namespace
}  // namespace quire
