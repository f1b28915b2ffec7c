// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/bench_line.h"

#include <limits>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(BenchLineTest, HasATimeOthersAndARemark) {
  EXPECT_EQ(BenchLineText({"swap out", 12.345}),
            "swap out                                            12.35 us");
  EXPECT_EQ(BenchLineText({"product O, 8 rows",
                           9,
                           {{"limit", 0.0096}, {"Lt guess", 11}},
                           "tiles 8.0 us"}),
            "product O, 8 rows                                    9.00 us, "
            "limit 0.0096 us, Lt guess 11.0000 us; tiles 8.0 us");
}

TEST(BenchLineDeathTest, WhatTookNoTimeIsABug) {
  EXPECT_DEATH(BenchLineText({"decode", 0}), "decode took 0 us");
  EXPECT_DEATH(BenchLineText({"decode", 1, {{"limit", -1}}}), "limit took -1");
  EXPECT_DEATH(
      BenchLineText({"decode", std::numeric_limits<double>::quiet_NaN()}),
      "decode took");
}

}  // namespace
}  // namespace quire
