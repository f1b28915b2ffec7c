// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace quire {
namespace {

std::vector<double> GapsOf(const std::vector<absl::Duration>& times) {
  std::vector<double> gaps_s;
  absl::Duration last = absl::ZeroDuration();
  for (const absl::Duration time : times) {
    gaps_s.push_back(absl::ToDoubleSeconds(time - last));
    last = time;
  }
  return gaps_s;
}

// Standard deviation over mean: 1 / sqrt(shape) for a gamma distribution.
double Variation(const std::vector<double>& gaps) {
  double sum = 0, squares = 0;
  for (const double gap : gaps) {
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / gaps.size();
  return std::sqrt(squares / gaps.size() - mean * mean) / mean;
}

TEST(ArrivalsTest, AnInfiniteRateSendsAllAtOnce) {
  const auto times = ArrivalTimes({}, 5, /*seed=*/0);
  EXPECT_EQ(times, std::vector<absl::Duration>(5, absl::ZeroDuration()));
}

TEST(ArrivalsTest, TheLastRequestOfAConstantRateArrivesOnTime) {
  const auto times = ArrivalTimes({.request_rate = 20}, 1000, /*seed=*/1);
  ASSERT_EQ(times.size(), 1000);
  EXPECT_TRUE(std::is_sorted(times.begin(), times.end()));
  EXPECT_NEAR(absl::ToDoubleSeconds(times.back()), 50, 1e-6);
}

TEST(ArrivalsTest, BurstinessIsTheShapeOfTheGaps) {
  // The estimate of the variation from n gaps errs by about 1/sqrt(n) = 0.5%
  // times a factor below 5 for these shapes: 5% is more than twice that.
  for (const double shape : {0.25, 1.0, 4.0}) {
    const auto times = ArrivalTimes({.request_rate = 10, .burstiness = shape},
                                    40000, /*seed=*/3);
    const double expected = 1 / std::sqrt(shape);
    EXPECT_NEAR(Variation(GapsOf(times)), expected, 0.05 * expected) << shape;
  }
}

TEST(ArrivalsTest, PoissonGapsAreExponential) {
  const auto gaps =
      GapsOf(ArrivalTimes({.request_rate = 1}, 40000, /*seed=*/4));
  // P(gap > 1) = 1/e; the standard error of n = 40000 draws is 0.0024.
  const double share =
      double(std::count_if(gaps.begin(), gaps.end(),
                           [](double gap) { return gap > 1; })) /
      gaps.size();
  EXPECT_NEAR(share, std::exp(-1), 0.01);
}

TEST(ArrivalsTest, TheSeedDecidesEverything) {
  const ArrivalOptions options = {.request_rate = 5, .burstiness = 0.5};
  EXPECT_EQ(ArrivalTimes(options, 100, 7), ArrivalTimes(options, 100, 7));
  EXPECT_NE(ArrivalTimes(options, 100, 7), ArrivalTimes(options, 100, 8));
}

TEST(ArrivalsTest, ALinearRampGoesFromOneRateToTheOther) {
  ArrivalOptions options = {.burstiness = 1e6};  // next to no randomness
  options.ramp_up = RampUp::kLinear;
  options.ramp_up_start_rps = 1;
  options.ramp_up_end_rps = 10;
  const auto gaps = GapsOf(ArrivalTimes(options, 10, /*seed=*/1));
  // The gaps' relative deviation is 1/sqrt(shape) = 0.001.
  EXPECT_NEAR(gaps[0], 1.0, 0.01);
  EXPECT_NEAR(gaps[4], 1.0 / 5, 0.002);
  EXPECT_NEAR(gaps[9], 1.0 / 10, 0.001);
}

TEST(ArrivalsTest, AnExponentialRampMultiplies) {
  ArrivalOptions options = {.burstiness = 1e6};
  options.ramp_up = RampUp::kExponential;
  options.ramp_up_start_rps = 1;
  options.ramp_up_end_rps = 16;
  const auto gaps = GapsOf(ArrivalTimes(options, 5, /*seed=*/1));
  for (int idx = 0; idx < 5; ++idx) {
    const double expected = std::pow(2.0, -idx);
    EXPECT_NEAR(gaps[idx], expected, 0.01 * expected);
  }
}

}  // namespace
}  // namespace quire
