// SPDX-License-Identifier: Apache-2.0
//
// A server that is told to end and takes its time, on a clock that stands still
// until the coordinator has said that it drains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <ostream>
#include <sstream>
#include <string>

#include "common/clock.h"
#include "tools/cli/signals.h"
#include "tools/quire/launcher.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Fake(const std::string& name) {
  return std::string(getenv("TEST_SRCDIR")) + "/" + getenv("TEST_WORKSPACE") +
         "/tests/tools/fakes/" + name;
}

// Ends the server when it is ready, and lets `passed` go by once it drains.
class DrainWatcher final : public std::stringbuf {
 public:
  DrainWatcher(absl::Duration passed, SimulatedClock* clock)
      : passed_(passed), clock_(clock) {}

 protected:
  int sync() override {
    const std::string text = str();
    if (!ended_ && text.find("is ready after") != std::string::npos) {
      ended_ = true;
      kill(getpid(), SIGTERM);
    }
    if (!drains_ && text.find("draining") != std::string::npos) {
      drains_ = true;
      clock_->Advance(passed_);
    }
    return 0;
  }

 private:
  const absl::Duration passed_;
  SimulatedClock* const clock_;
  bool ended_ = false;
  bool drains_ = false;
};

// A minute later whenever it is looked at.
class RushingClock final : public Clock {
 public:
  absl::Time Now() const override {
    simulated_.Advance(absl::Minutes(1));
    return simulated_.Now();
  }
  bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                  absl::Time deadline) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    return simulated_.AwaitUntil(mu, condition, deadline);
  }

 private:
  mutable SimulatedClock simulated_;
};

// What a launcher says whose coordinator behaves so.
std::string Say(const std::string& behaviour, std::stringbuf* buffer,
                const Clock* clock) {
  LauncherOptions options;
  options.coordinator_binary = Fake("fake_coordinator");
  options.worker_binary = Fake("fake_worker");
  options.coordinator_flags = {"--fake=" + behaviour};
  options.log_dir = testing::TempDir();
  options.verbose = true;
  options.grace = absl::Seconds(100);
  std::ostream err(buffer);
  SignalEvents events(SignalEvents::Children::kReport);
  Launcher launcher(options, &events, &err, clock);
  EXPECT_EQ(launcher.Run(), 0) << buffer->str();
  return buffer->str();
}

// Of a coordinator that drains until it hears a second signal.
std::string SayOfADrain(absl::Duration passed) {
  SimulatedClock clock;
  DrainWatcher buffer(passed, &clock);
  return Say("drains", &buffer, &clock);
}

TEST(LauncherGraceTest, WhoDrainsForNineTenthsIsToldToHurry) {
  const std::string text = SayOfADrain(absl::Seconds(91));
  EXPECT_THAT(text, HasSubstr("coordinator| ending after signal 15"));
  EXPECT_THAT(text, Not(HasSubstr("was killed")));
}

TEST(LauncherGraceTest, WhoDoesNotEndInTheGraceIsKilled) {
  EXPECT_THAT(SayOfADrain(absl::Seconds(100)),
              HasSubstr("the coordinator did not end in time and was killed"));
}

TEST(LauncherGraceTest, AGraceMayEndBetweenTwoLooksAtTheClock) {
  SimulatedClock still;
  DrainWatcher buffer(absl::ZeroDuration(), &still);  // to end the server
  const RushingClock clock;
  EXPECT_THAT(Say("deaf", &buffer, &clock),
              HasSubstr("the coordinator did not end in time and was killed"));
}

}  // namespace
}  // namespace quire
