// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/peer_watch.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// A process that waits for its end.
class Child {
 public:
  Child() : pid_(fork()) {
    if (pid_ == 0) {
      while (true) pause();
    }
  }
  ~Child() { Kill(); }
  pid_t pid() const { return pid_; }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

constexpr absl::Duration kLong = absl::Seconds(30);

TEST(PeerWatchTest, AKilledProcessEndsTheGroup) {
  Child one, other;
  PeerWatch watch(/*announced=*/nullptr);
  watch.Add(1, one.pid());
  watch.Add(2, other.pid());
  absl::Notification ended;
  watch.OnEnd([&] { ended.Notify(); });
  EXPECT_TRUE(watch.status().ok());
  const pid_t pid = other.pid();
  other.Kill();
  ASSERT_TRUE(ended.WaitForNotificationWithTimeout(kLong));
  const absl::Status status = watch.end()->Await(kLong);
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_TRUE(absl::StrContains(status.message(), "rank 2 ended")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), std::to_string(pid)));
}

TEST(PeerWatchTest, AProcessThatIsGoneAlreadyEndsItAtOnce) {
  Child child;
  const pid_t pid = child.pid();
  child.Kill();
  PeerWatch watch(nullptr);
  watch.Add(1, pid);
  EXPECT_TRUE(absl::IsUnavailable(watch.status()));
}

TEST(PeerWatchTest, AnAnnouncementIsPassedOn) {
  GroupEnd announced;
  PeerWatch watch(&announced);
  absl::Notification ended;
  watch.OnEnd([&] { ended.Notify(); });
  announced.Announce(absl::UnavailableError("the epoch is over"));
  ASSERT_TRUE(ended.WaitForNotificationWithTimeout(kLong));
  EXPECT_EQ(watch.end()->status().message(), "the epoch is over");
}

TEST(PeerWatchTest, TheFirstCauseStaysAndIsToldOnce) {
  PeerWatch watch(nullptr);
  int told = 0;
  watch.OnEnd([&] { ++told; });
  watch.End(absl::UnavailableError("first"));
  watch.End(absl::UnavailableError("second"));
  EXPECT_EQ(told, 1);
  EXPECT_EQ(watch.status().message(), "first");
  // Whoever asks too late is told, too.
  watch.OnEnd([&] { ++told; });
  EXPECT_EQ(told, 2);
}

TEST(ThisPidNamespaceTest, IsNamed) {
  EXPECT_TRUE(absl::StartsWith(ThisPidNamespace(), "pid:"));
}

}  // namespace
}  // namespace quire
