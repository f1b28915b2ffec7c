// SPDX-License-Identifier: Apache-2.0
#include "common/sip_hash.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr uint64_t kKey0 = 0x0706050403020100u;
constexpr uint64_t kKey1 = 0x0f0e0d0c0b0a0908u;

// The vector of the paper's appendix A: the bytes 0 to 14.
TEST(SipHashTest, ReproducesThePapersVector) {
  SipHash<2, 4, 64> hash(kKey0, kKey1);
  hash.Absorb(0x0706050403020100u);
  EXPECT_EQ(hash.Finish(15, 0x000e0d0c0b0a0908u)[0], 0xa129ca6149be45e5u);
}

// `openssl mac -macopt hexkey:000102030405060708090a0b0c0d0e0f -macopt size:16
// -macopt c-rounds:1 -macopt d-rounds:3 SIPHASH` of the bytes 0 to 7, read as
// little-endian words.
TEST(SipHashTest, GivesTwoWordsOfOtherRounds) {
  SipHash<1, 3, 128> hash(kKey0, kKey1);
  hash.Absorb(0x0706050403020100u);
  const auto [low, high] = hash.Finish(8);
  EXPECT_EQ(low, 0xb4dae3d5e1fe12aau);
  EXPECT_EQ(high, 0x99c7f935ab164f72u);
}

TEST(SipHashTest, TheLengthCounts) {
  SipHash<2, 4, 64> shorter(kKey0, kKey1);
  SipHash<2, 4, 64> longer(kKey0, kKey1);
  EXPECT_NE(shorter.Finish(1), longer.Finish(2));
}

}  // namespace
}  // namespace quire
