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

// Whether the open step is seen to have expired at `time`, by two looks.
bool ExpiresAt(absl::Time time, StepWatchdog* watchdog) {
  StepWatchdog copy = *watchdog;
  EXPECT_FALSE(copy.CheckExpired(time));
  EXPECT_FALSE(copy.CheckExpired(time + absl::Milliseconds(499)));
  return copy.CheckExpired(time + absl::Milliseconds(500));
}

TEST(StepWatchdogTest, IsGenerousWithFirstSteps) {
  StepWatchdog watchdog({});
  watchdog.OnSent(StepId(1), kStart);
  EXPECT_FALSE(ExpiresAt(kStart + absl::Seconds(60), &watchdog));
  EXPECT_TRUE(ExpiresAt(kStart + absl::Seconds(61), &watchdog));
}

TEST(StepWatchdogTest, ShortStepsHaveTheLeastLimit) {
  StepWatchdog watchdog({});
  const absl::Time now = RunSteps(8, absl::Milliseconds(10), &watchdog);
  EXPECT_EQ(watchdog.Limit(), absl::Seconds(2));
  watchdog.OnSent(StepId(9), now);
  EXPECT_FALSE(ExpiresAt(now + absl::Seconds(2), &watchdog));
  EXPECT_TRUE(ExpiresAt(now + absl::Milliseconds(2001), &watchdog));
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
  EXPECT_FALSE(ExpiresAt(kStart + absl::Seconds(3), &watchdog));
  EXPECT_TRUE(ExpiresAt(kStart + absl::Milliseconds(3001), &watchdog));
}

TEST(StepWatchdogTest, AnAnswerThatIsReadLateIsNoLoss) {
  StepWatchdog watchdog({});
  absl::Time now = RunSteps(8, absl::Milliseconds(10), &watchdog);
  watchdog.OnSent(StepId(9), now);
  watchdog.OnSent(StepId(10), now);
  now += absl::Seconds(5);  // in which nobody looked
  EXPECT_FALSE(watchdog.CheckExpired(now));
  watchdog.OnDone(now);
  now += absl::Seconds(5);
  EXPECT_FALSE(watchdog.CheckExpired(now));
  watchdog.OnDone(now);
}

TEST(StepWatchdogTest, IdleGroupNeverExpires) {
  StepWatchdog watchdog({});
  RunSteps(8, absl::Milliseconds(10), &watchdog);
  EXPECT_FALSE(watchdog.CheckExpired(absl::InfiniteFuture()));
}

}  // namespace
}  // namespace quire
