// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/text_pool.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(TextPoolTest, RunsWhatItTookEvenWhenItStops) {
  std::atomic<int> num_run{0};
  {
    TextPool pool(/*num_threads=*/2, /*max_queued=*/100);
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(pool.TryRun([&] { ++num_run; }));
    }
  }
  EXPECT_EQ(num_run, 100);
}

TEST(TextPoolTest, RefusesWhenTooManyWait) {
  absl::Notification started, release;
  TextPool pool(/*num_threads=*/1, /*max_queued=*/1);
  ASSERT_TRUE(pool.TryRun([&] {
    started.Notify();
    release.WaitForNotification();
  }));
  started.WaitForNotification();
  EXPECT_TRUE(pool.TryRun([] {}));
  EXPECT_FALSE(pool.TryRun([] {}));
  release.Notify();
}

}  // namespace
}  // namespace quire
