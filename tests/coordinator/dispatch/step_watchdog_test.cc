// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/step_watchdog.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

const absl::Time kStart = absl::UnixEpoch();

// `n` steps of `each`, one after the other; returns when the last was done.
absl::Time RunSteps(int n, absl::Duration each, StepWatchdog* watchdog) {
  absl::Time now = kStart;
  for (int i = 1; i <= n; ++i) {
    watchdog->OnSent(StepId(i), now);
    now += each;
    watchdog->OnDone(now);
  }
  return now;
}

TEST(StepWatchdogTest, IsGenerousWithFirstSteps) {
  StepWatchdog watchdog({});
  watchdog.OnSent(StepId(1), kStart);
  EXPECT_FALSE(watchdog.IsExpired(kStart + absl::Seconds(60)));
  EXPECT_TRUE(watchdog.IsExpired(kStart + absl::Seconds(61)));
}

TEST(StepWatchdogTest, ShortStepsHaveTheLeastLimit) {
  StepWatchdog watchdog({});
  const absl::Time now = RunSteps(8, absl::Milliseconds(10), &watchdog);
  EXPECT_EQ(watchdog.Limit(), absl::Seconds(2));
  watchdog.OnSent(StepId(9), now);
  EXPECT_FALSE(watchdog.IsExpired(now + absl::Seconds(2)));
  EXPECT_TRUE(watchdog.IsExpired(now + absl::Milliseconds(2001)));
  EXPECT_EQ(watchdog.oldest_step(), StepId(9));
}

TEST(StepWatchdogTest, LimitFollowsTheAverageUpToTheMost) {
  StepWatchdog half({});
  RunSteps(8, absl::Milliseconds(500), &half);
  EXPECT_EQ(half.Limit(), absl::Seconds(5));
  StepWatchdog slow({});
  RunSteps(8, absl::Seconds(10), &slow);
  EXPECT_EQ(slow.Limit(), absl::Seconds(30));
}

TEST(StepWatchdogTest, LargestStepIsNeverCloseToTheLimit) {
  StepWatchdog::Options options;
  options.largest_step = absl::Seconds(20);
  StepWatchdog watchdog(options);
  RunSteps(8, absl::Milliseconds(10), &watchdog);
  EXPECT_EQ(watchdog.Limit(), absl::Seconds(80));
}

TEST(StepWatchdogTest, StepSentAheadStartsWhenTheOneBeforeIsDone) {
  StepWatchdog::Options options;
  options.fixed = absl::Seconds(2);
  StepWatchdog watchdog(options);
  watchdog.OnSent(StepId(1), kStart);
  watchdog.OnSent(StepId(2), kStart);
  watchdog.OnDone(kStart + absl::Seconds(1));
  EXPECT_FALSE(watchdog.IsExpired(kStart + absl::Seconds(3)));
  EXPECT_TRUE(watchdog.IsExpired(kStart + absl::Milliseconds(3001)));
}

TEST(StepWatchdogTest, IdleGroupNeverExpires) {
  StepWatchdog watchdog({});
  RunSteps(8, absl::Milliseconds(10), &watchdog);
  EXPECT_FALSE(watchdog.IsExpired(absl::InfiniteFuture()));
}

}  // namespace
}  // namespace quire
