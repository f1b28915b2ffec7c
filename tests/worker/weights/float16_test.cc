// SPDX-License-Identifier: Apache-2.0
#include "worker/weights/float16.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(Float16Test, EveryHalfConvertsExactly) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = Float16ToFloat(static_cast<uint16_t>(bits));
    const int exponent = static_cast<int>((bits >> 10) & 31);
    const int mantissa = static_cast<int>(bits & 1023);
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), mantissa != 0) << bits;
      EXPECT_EQ(std::isinf(value), mantissa == 0) << bits;
    } else {
      const double magnitude = exponent == 0
                                   ? std::ldexp(mantissa, -24)
                                   : std::ldexp(1024 + mantissa, exponent - 25);
      EXPECT_EQ(std::abs(value), magnitude) << bits;
    }
    EXPECT_EQ(std::signbit(value), (bits & 0x8000) != 0) << bits;
  }
}

TEST(Float16Test, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(FloatToBfloat16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBfloat16(-2.0f), 0xc000);
  // 1 + 2^-8 lies midway between 1 and 1 + 2^-7: down, to the even one.
  EXPECT_EQ(FloatToBfloat16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(FloatToBfloat16(1.0f + 0x1.8p-7f), 0x3f82);
  EXPECT_EQ(FloatToBfloat16(1.0f + 0x1.01p-8f), 0x3f81);
  EXPECT_EQ(FloatToBfloat16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Float16Test, NanStaysNanAndInfinityInfinity) {
  EXPECT_EQ(FloatToBfloat16(std::numeric_limits<float>::infinity()), 0x7f80);
  // The only mantissa bit is among those cut off.
  const uint16_t nan = FloatToBfloat16(std::bit_cast<float>(0x7f800001u));
  EXPECT_GT(nan & 0x7fff, 0x7f80);
}

}  // namespace
}  // namespace quire
