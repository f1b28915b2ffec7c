// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/synchronization/notification.h"

namespace quire {
namespace {

TEST(SignalEventsTest, ASignalIsReadInsteadOfDeadly) {
  SignalEvents events(SignalEvents::Children::kIgnore);
  EXPECT_EQ(events.Next(), std::nullopt);
  kill(getpid(), SIGTERM);
  EXPECT_EQ(events.Next(), SIGTERM);
  EXPECT_EQ(events.Next(), std::nullopt);
}

TEST(SignalEventsTest, ReportsEndedChildrenOnRequest) {
  SignalEvents events(SignalEvents::Children::kReport);
  const pid_t child = fork();
  if (child == 0) _exit(0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_EQ(events.Next(), SIGCHLD);
}

TEST(InterruptWatcherTest, CallsBackForASignal) {
  SignalEvents events(SignalEvents::Children::kIgnore);
  absl::Notification called;
  int seen = 0;
  {
    InterruptWatcher watcher(&events, [&](int signal) {
      seen = signal;
      called.Notify();
    });
    kill(getpid(), SIGINT);
    called.WaitForNotification();
  }
  EXPECT_EQ(seen, SIGINT);
}

TEST(InterruptWatcherTest, EndsWithoutASignal) {
  SignalEvents events(SignalEvents::Children::kIgnore);
  int num_calls = 0;
  {
    InterruptWatcher watcher(&events, [&](int) { ++num_calls; });
  }
  EXPECT_EQ(num_calls, 0);
}

}  // namespace
}  // namespace quire
