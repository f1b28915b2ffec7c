// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/rank_sum.h"

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

uint16_t Bf16(float exact) {  // REQUIRES: representable
  uint32_t bits;
  std::memcpy(&bits, &exact, sizeof(bits));
  return bits >> 16;
}

TEST(RankSumTest, AddsInTheOrderOfTheRanks) {
  // 1e8 swallows 1 in float, so the order shows: (1e8 + 1) - 1e8 = 0, while
  // (1e8 - 1e8) + 1 = 1.
  const std::vector<float> big(1500, 1e8f), one(1500, 1.f), minus(1500, -1e8f);
  std::vector<float> out(1500, -1);
  SumInRankOrder({big.data(), one.data(), minus.data()}, out.data(), 1500,
                 DType::kF32);
  EXPECT_EQ(out, std::vector<float>(1500, 0.f));
  SumInRankOrder({big.data(), minus.data(), one.data()}, out.data(), 1500,
                 DType::kF32);
  EXPECT_EQ(out, std::vector<float>(1500, 1.f));
}

TEST(RankSumTest, Bf16IsRoundedOnceAndToEven) {
  // 256 + 0.5 + 0.5: each half alone would be lost to rounding (bf16 has steps
  // of 2 there), the whole 1 is a tie between 256 and 258: even is 256. With a
  // further 0.5 it is above the tie.
  const std::vector<uint16_t> big = {Bf16(256.f)}, half = {Bf16(0.5f)};
  uint16_t out = 0;
  SumInRankOrder({big.data(), half.data(), half.data()}, &out, 1, DType::kBf16);
  EXPECT_EQ(out, Bf16(256.f));
  SumInRankOrder({big.data(), half.data(), half.data(), half.data()}, &out, 1,
                 DType::kBf16);
  EXPECT_EQ(out, Bf16(258.f));
}

TEST(RankSumTest, ABf16NanStaysANan) {
  const uint16_t nan = 0x7f81, zero = 0;  // rounding it up would give infinity
  uint16_t out = 0;
  SumInRankOrder({&nan, &zero}, &out, 1, DType::kBf16);
  EXPECT_EQ(out & 0x7f80, 0x7f80);
  EXPECT_NE(out & 0x7f, 0);
}

TEST(RankSumTest, OutMayBeASource) {
  std::vector<float> mine = {1, 2, 3};
  const std::vector<float> other = {10, 20, 30};
  SumInRankOrder({other.data(), mine.data()}, mine.data(), 3, DType::kF32);
  EXPECT_EQ(mine, (std::vector<float>{11, 22, 33}));
}

TEST(RankSumTest, PartsCoverEveryElementOnce) {
  for (int64_t n : {0, 1, 31, 32, 33, 100, 1024, 4097}) {
    for (int32_t parts : {1, 2, 3, 4, 8}) {
      int64_t next = 0;
      for (int32_t part = 0; part < parts; ++part) {
        const RankPart range = PartOf(n, part, parts);
        EXPECT_EQ(range.begin, next);
        EXPECT_GE(range.size(), 0);
        next = range.end;
      }
      EXPECT_EQ(next, n);
    }
  }
}

}  // namespace
}  // namespace quire
