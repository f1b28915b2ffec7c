// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_key.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr HashKey kKey = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

// `openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:16
// -macopt c-rounds:1 -macopt d-rounds:3 SIPHASH` of no bytes and of the bytes
// 0 to 7, read as little-endian words.
TEST(BlockKeyTest, IsSipHash13With128Bits) {
  EXPECT_EQ(SipHash128(kKey, {}),
            (BlockKey{0xbea58827b2bc7ee7u, 0x013030dd6adb62fdu}));
  EXPECT_EQ(SipHash128(kKey, {0x0706050403020100u}),
            (BlockKey{0xb4dae3d5e1fe12aau, 0x99c7f935ab164f72u}));
}

TEST(BlockKeyTest, TokensFollowTheKeyBeforeThemInPairs) {
  const BlockKey parent = {1, 2};
  const std::vector<TokenId> tokens = {3, 4, 5};
  EXPECT_EQ(ChainKey(kKey, parent, tokens),
            SipHash128(kKey, {1, 2, uint64_t{4} << 32 | 3, 5}));
}

TEST(BlockKeyTest, AKeyDependsOnAllThatItStandsFor) {
  const std::vector<TokenId> tokens = {3, 4};
  const std::vector<TokenId> others = {4, 3};
  const BlockKey root = ScopeKey(kKey, 7);
  const BlockKey key = ChainKey(kKey, root, tokens);
  EXPECT_EQ(key, ChainKey(kKey, root, tokens));
  EXPECT_NE(key, ChainKey(kKey, root, others));
  EXPECT_NE(key, ChainKey(kKey, ScopeKey(kKey, 8), tokens));
  EXPECT_NE(key, ChainKey(kKey, key, tokens));
  EXPECT_NE(key, ChainKey({1, 2}, ScopeKey({1, 2}, 7), tokens));
}

TEST(BlockKeyTest, TheProcessDrawsOneKey) {
  EXPECT_EQ(ProcessHashKey(), ProcessHashKey());
  EXPECT_NE(ProcessHashKey(), HashKey{});
}

}  // namespace
}  // namespace quire
