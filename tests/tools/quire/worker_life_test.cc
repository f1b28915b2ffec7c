// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/worker_life.h"

#include <gtest/gtest.h>

namespace quire {
namespace {

using Restarts = WorkerLife::Restarts;

constexpr absl::Time kStart = absl::UnixEpoch();

// Ends and begins again `times`, at once each time.
void Fail(WorkerLife* life, int times, absl::Time now) {
  for (int i = 0; i < times; ++i) {
    life->End(Restarts::kAlways, now);
    life->Begin(now);
  }
}

TEST(WorkerLifeTest, DelaysDoubleUpToAMinute) {
  WorkerLife life;
  EXPECT_FALSE(life.has_failed());
  for (int seconds : {0, 1, 2, 4, 8, 16, 32, 60, 60}) {
    life.End(Restarts::kAlways, kStart);
    EXPECT_TRUE(life.is_over());
    EXPECT_FALSE(life.is_lost());
    EXPECT_EQ(life.restart_at(), kStart + absl::Seconds(seconds));
    life.Begin(kStart);
    EXPECT_FALSE(life.is_over());
    EXPECT_TRUE(life.has_failed());
  }
}

TEST(WorkerLifeTest, ALongLifeIsACleanSlate) {
  WorkerLife life;
  Fail(&life, 5, kStart);
  const absl::Time late = kStart + absl::Minutes(10);
  life.End(Restarts::kAFewTimes, late);
  EXPECT_EQ(life.restart_at(), late);
}

TEST(WorkerLifeTest, AFewRestartsAreFive) {
  WorkerLife life;
  Fail(&life, 4, kStart);
  life.End(Restarts::kAFewTimes, kStart);
  EXPECT_FALSE(life.is_lost());
  life.Begin(kStart);
  life.End(Restarts::kAFewTimes, kStart);
  EXPECT_TRUE(life.is_lost());
  EXPECT_EQ(life.restart_at(), std::nullopt);
}

TEST(WorkerLifeTest, WithoutRestartsTheFirstEndIsTheLast) {
  WorkerLife life;
  life.End(Restarts::kNever, kStart);
  EXPECT_TRUE(life.is_lost());
  EXPECT_TRUE(life.has_failed());
}

TEST(WorkerLifeTest, WhoIsDismissedIsOverdueOnce) {
  WorkerLife life;
  const absl::Time deadline = kStart + absl::Seconds(5);
  EXPECT_FALSE(life.TakeOverdue(deadline));
  life.Dismiss(deadline);
  EXPECT_EQ(life.deadline(), deadline);
  EXPECT_FALSE(life.TakeOverdue(deadline - absl::Nanoseconds(1)));
  EXPECT_TRUE(life.TakeOverdue(deadline));
  EXPECT_EQ(life.deadline(), std::nullopt);
  EXPECT_FALSE(life.TakeOverdue(deadline));
}

TEST(WorkerLifeTest, WhoEndsInTimeIsNotOverdue) {
  WorkerLife life;
  life.Dismiss(kStart);
  life.End(Restarts::kAlways, kStart);
  EXPECT_FALSE(life.TakeOverdue(kStart));
  life.Dismiss(kStart);  // of the process that has ended
  life.Begin(kStart);
  EXPECT_FALSE(life.TakeOverdue(kStart));
}

}  // namespace
}  // namespace quire
