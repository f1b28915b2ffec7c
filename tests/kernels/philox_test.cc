// SPDX-License-Identifier: Apache-2.0
#include "kernels/philox.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace quire {
namespace {

void ExpectWords(PhiloxWords counter, uint32_t key0, uint32_t key1,
                 PhiloxWords expected) {
  const PhiloxWords words = Philox4x32(counter, key0, key1);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(words.word[i], expected.word[i]) << i;
}

// The vectors published with the paper's library (Random123, kat_vectors,
// "philox4x32 10").
TEST(PhiloxTest, AgreesWithThePublishedVectors) {
  ExpectWords({{0, 0, 0, 0}}, 0, 0,
              {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  ExpectWords({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff,
              0xffffffff, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  ExpectWords({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822,
              0x299f31d0, {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(PhiloxTest, FourTokensShareABlockOfWords) {
  const uint64_t seed = 0x123456789abcdef0u;
  const PhiloxWords words =
      Philox4x32({{25, 7, 0, 0}}, 0x9abcdef0u, 0x12345678u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(TokenRandomWord(seed, /*position=*/7, 100 + i), words.word[i]);
  }
}

}  // namespace
}  // namespace quire
