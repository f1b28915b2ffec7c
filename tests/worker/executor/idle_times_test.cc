// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/idle_times.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(IdleTimesTest, QuantilesAreOfWhatWasAdded) {
  IdleTimes times;
  EXPECT_EQ(times.Quantile(0.5), 0);
  for (int i = 100; i >= 0; --i) EXPECT_FALSE(times.Add(i * 1e-6));
  EXPECT_FLOAT_EQ(times.Quantile(0.5), 50);
  EXPECT_FLOAT_EQ(times.Quantile(0.99), 99);
  EXPECT_EQ(times.ToString(),
            "idle between steps: p50 50.0, p99 99.0 us of the last 101");
}

TEST(IdleTimesTest, PausesAreNoIdleness) {
  IdleTimes times;
  times.Add(2 * IdleTimes::kPauseSeconds);
  EXPECT_EQ(times.count(), 0);
}

TEST(IdleTimesTest, OldTimesAreForgottenAndFullOnesAnnounced) {
  IdleTimes times;
  for (int64_t i = 1; i < IdleTimes::kKept; ++i) times.Add(1e-3);
  EXPECT_TRUE(times.Add(1e-3));
  for (int64_t i = 1; i < IdleTimes::kKept; ++i) times.Add(5e-6);
  EXPECT_TRUE(times.Add(5e-6));
  EXPECT_FLOAT_EQ(times.Quantile(1), 5);
}

}  // namespace
}  // namespace quire
