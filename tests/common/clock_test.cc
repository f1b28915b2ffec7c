// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include <gtest/gtest.h>

#include <thread>

namespace quire {
namespace {

bool IsSet(bool* flag) { return *flag; }

TEST(SimulatedClockTest, StandsStillUntilAdvanced) {
  SimulatedClock clock(absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));
  clock.Advance(absl::Seconds(5));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(105));
}

TEST(SimulatedClockTest, AwaitGivesUpWhenItsTimePasses) {
  SimulatedClock clock;
  absl::Mutex mutex;
  bool flag = false;
  std::thread advancer([&] { clock.Advance(absl::Seconds(10)); });
  absl::MutexLock lock(&mutex);
  EXPECT_FALSE(clock.AwaitUntil(&mutex, absl::Condition(IsSet, &flag),
                                absl::UnixEpoch() + absl::Seconds(10)));
  advancer.join();
}

TEST(SimulatedClockTest, AwaitReturnsWhenTheConditionHolds) {
  SimulatedClock clock;
  absl::Mutex mutex;
  bool flag = false;
  std::thread setter([&] {
    absl::MutexLock lock(&mutex);
    flag = true;
  });
  {
    absl::MutexLock lock(&mutex);
    EXPECT_TRUE(clock.AwaitUntil(&mutex, absl::Condition(IsSet, &flag),
                                 absl::InfiniteFuture()));
  }
  setter.join();
}

TEST(RealClockTest, NeverGoesBackwards) {
  RealClock clock;
  absl::Time last = clock.Now();
  for (int i = 0; i < 1000; ++i) {
    const absl::Time now = clock.Now();
    EXPECT_GE(now, last);
    last = now;
  }
}

TEST(RealClockTest, AwaitEndsAtADeadlineInThePast) {
  RealClock clock;
  absl::Mutex mutex;
  bool flag = false;
  absl::MutexLock lock(&mutex);
  EXPECT_FALSE(clock.AwaitUntil(&mutex, absl::Condition(IsSet, &flag),
                                clock.Now() - absl::Seconds(1)));
}

}  // namespace
}  // namespace quire
