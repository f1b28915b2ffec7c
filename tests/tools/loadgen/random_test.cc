// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace quire {
namespace {

TEST(RandomTest, StreamsOfOneSeedDiffer) {
  EXPECT_EQ(Random(1, 2).Uniform(), Random(1, 2).Uniform());
  EXPECT_NE(Random(1, 2).Uniform(), Random(1, 3).Uniform());
  EXPECT_NE(Random(1, 2).Uniform(), Random(2, 2).Uniform());
}

TEST(RandomTest, UniformIntReachesBothEndsAndNoMore) {
  Random random(1, 1);
  std::set<int64_t> seen;
  for (int draw = 0; draw < 1000; ++draw) seen.insert(random.UniformInt(3, 6));
  EXPECT_EQ(seen, (std::set<int64_t>{3, 4, 5, 6}));
  EXPECT_EQ(random.UniformInt(9, 9), 9);
}

TEST(RandomTest, GammaHasTheMeanOfShapeTimesScale) {
  // The standard error of the mean of n = 20000 draws is
  // scale * sqrt(shape / n); five of them never happen.
  for (const double shape : {0.3, 1.0, 7.5}) {
    Random random(5, 5);
    double sum = 0;
    for (int draw = 0; draw < 20000; ++draw) sum += random.Gamma(shape, 2);
    EXPECT_NEAR(sum / 20000, 2 * shape, 5 * 2 * std::sqrt(shape / 20000));
  }
}

TEST(RandomTest, NormalHasMeanZeroAndVarianceOne) {
  Random random(6, 6);
  double sum = 0, squares = 0;
  for (int draw = 0; draw < 20000; ++draw) {
    const double x = random.Normal();
    sum += x;
    squares += x * x;
  }
  // Five standard errors: 5 / sqrt(n) and 5 * sqrt(2 / n).
  EXPECT_NEAR(sum / 20000, 0, 0.036);
  EXPECT_NEAR(squares / 20000, 1, 0.05);
}

}  // namespace
}  // namespace quire
