// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/task_thread.h"

#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(TaskThreadTest, RunsTasksInOrderOnOneThreadOfItsOwn) {
  TaskThread thread("test");
  std::vector<int> order;
  std::vector<std::thread::id> ids;
  absl::Notification done;
  for (int i = 0; i < 100; ++i) {
    thread.Post([&, i] {
      order.push_back(i);
      ids.push_back(std::this_thread::get_id());
    });
  }
  thread.Post([&] { done.Notify(); });
  done.WaitForNotification();
  ASSERT_EQ(order.size(), 100);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(order[i], i);
    EXPECT_EQ(ids[i], ids[0]);
  }
  EXPECT_NE(ids[0], std::this_thread::get_id());
}

TEST(TaskThreadTest, StopDropsWhatHasNotBegunAndSaysIfATaskIsStuck) {
  absl::Notification started, release;
  bool ran = false;
  {
    TaskThread thread("test");
    thread.Post([&] {
      started.Notify();
      release.WaitForNotification();
    });
    thread.Post([&] { ran = true; });
    started.WaitForNotification();
    EXPECT_FALSE(thread.Stop(absl::ZeroDuration()));
    thread.Post([&] { ran = true; });
    release.Notify();
    EXPECT_TRUE(thread.Stop(absl::InfiniteDuration()));
  }
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace quire
