// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

namespace quire {
namespace {

using ::testing::HasSubstr;

class ProgressTest : public testing::Test {
 protected:
  Progress Make(ProgressStyle style,
                Progress::Unit unit = Progress::Unit::kCount) {
    return Progress("weights", unit, style, &out_, &clock_);
  }
  int64_t Count(char c) const {
    const std::string text = out_.str();
    return std::count(text.begin(), text.end(), c);
  }

  SimulatedClock clock_;
  std::ostringstream out_;
};

TEST_F(ProgressTest, ABarIsRedrawnAtMostTenTimesASecond) {
  Progress progress = Make(ProgressStyle::kBar);
  for (int ms = 0; ms < 1000; ++ms) {
    progress.Update(ms, 1000);
    clock_.Advance(absl::Milliseconds(1));
  }
  EXPECT_EQ(Count('\r'), 10);
  EXPECT_EQ(Count('\n'), 0);
  progress.Finish();
  EXPECT_EQ(Count('\n'), 1);
}

TEST_F(ProgressTest, ALogGetsALineEveryTenSeconds) {
  Progress progress = Make(ProgressStyle::kPlain);
  for (int s = 0; s < 30; ++s) {
    progress.Update(s, 30);
    clock_.Advance(absl::Seconds(1));
  }
  EXPECT_EQ(Count('\n'), 3);
  EXPECT_EQ(Count('\r'), 0);
  EXPECT_EQ(out_.str().find('\x1b'), std::string::npos);
}

TEST_F(ProgressTest, SaysRateAndTimeLeft) {
  Progress progress = Make(ProgressStyle::kPlain);
  clock_.Advance(absl::Seconds(10));
  progress.Update(20, 100, "3 running");
  // 20 in 10 s is 2 a second; 80 are left.
  EXPECT_EQ(out_.str(), "weights   20% 20/100  2.0/s  ETA 40.0s  3 running\n");
}

TEST_F(ProgressTest, CountsBytesInMebibytes) {
  Progress progress = Make(ProgressStyle::kPlain, Progress::Unit::kBytes);
  clock_.Advance(absl::Seconds(2));
  progress.Update(3 << 20, 6 << 20);
  EXPECT_THAT(out_.str(), HasSubstr("50% 3.0/6.0 MiB  1.5 MiB/s"));
}

TEST_F(ProgressTest, ARateNeedsSomeTime) {
  Progress progress = Make(ProgressStyle::kPlain);
  clock_.Advance(absl::Milliseconds(1));
  progress.Update(20, 100);
  EXPECT_EQ(out_.str(), "weights   20% 20/100\n");
}

TEST_F(ProgressTest, SomeStagesHaveNoNumbers) {
  Progress progress = Make(ProgressStyle::kPlain, Progress::Unit::kNone);
  progress.Update(0, 1, "profiling");
  EXPECT_EQ(out_.str(), "weights    0%  profiling\n");
}

TEST_F(ProgressTest, NeverShowsMoreThanAll) {
  Progress progress = Make(ProgressStyle::kBar);
  progress.Update(5, 3);
  EXPECT_THAT(out_.str(), HasSubstr("100% 3/3"));
}

TEST_F(ProgressTest, ALogIsNotToldTheSameTwice) {
  Progress progress = Make(ProgressStyle::kPlain);
  progress.Update(3, 3);
  progress.Finish();
  EXPECT_EQ(Count('\n'), 1);
}

TEST_F(ProgressTest, OneHundredPercentMeansAll) {
  Progress progress = Make(ProgressStyle::kPlain);
  progress.Update(199, 200);
  EXPECT_THAT(out_.str(), HasSubstr("99% 199/200"));
}

TEST_F(ProgressTest, FinishWithoutUpdatePrintsNothing) {
  Make(ProgressStyle::kBar).Finish();
  Progress silent = Make(ProgressStyle::kNone);
  silent.Update(1, 2);
  EXPECT_EQ(out_.str(), "");
}

TEST(ProgressStyleTest, WhatIsNoTerminalGetsPlainLines) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  EXPECT_EQ(ProgressStyleFor(fds[1]), ProgressStyle::kPlain);
  close(fds[0]);
  close(fds[1]);
}

TEST(ProgressStyleTest, ATerminalGetsABarUnlessTheEnvironmentObjects) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0) GTEST_SKIP() << "no pseudo terminals here";
  unsetenv("CI");
  unsetenv("NO_COLOR");
  EXPECT_EQ(ProgressStyleFor(terminal), ProgressStyle::kBar);
  setenv("CI", "1", 1);
  EXPECT_EQ(ProgressStyleFor(terminal), ProgressStyle::kPlain);
  unsetenv("CI");
  setenv("NO_COLOR", "1", 1);
  EXPECT_EQ(ProgressStyleFor(terminal), ProgressStyle::kPlain);
  close(terminal);
}

TEST(ShortDurationTest, UsesTheTwoLargestUnits) {
  EXPECT_EQ(ShortDuration(absl::Milliseconds(7240)), "7.2s");
  EXPECT_EQ(ShortDuration(absl::Seconds(185)), "3m05s");
  EXPECT_EQ(ShortDuration(absl::Minutes(124)), "2h04m");
}

}  // namespace
}  // namespace quire
