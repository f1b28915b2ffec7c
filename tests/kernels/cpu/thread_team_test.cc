// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_team.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ThreadTeamTest, CoversEveryItemOnce) {
  for (int threads : {1, 2, 5}) {
    const ThreadTeam team(threads);
    for (int64_t n : {0, 1, 2, 7, 100, 1001}) {
      for (int64_t grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> visits(n);
        team.For(n, grain, [&](int thread, int64_t begin, int64_t end) {
          ASSERT_LT(thread, threads);
          ASSERT_LT(begin, end);
          for (int64_t i = begin; i < end; ++i) ++visits[i];
        });
        for (int64_t i = 0; i < n; ++i) ASSERT_EQ(visits[i], 1);
      }
    }
  }
}

TEST(ThreadTeamTest, OneThreadMeansTheCallers) {
  const ThreadTeam team(1);
  const std::thread::id caller = std::this_thread::get_id();
  team.For(1000, 1, [&](int thread, int64_t, int64_t) {
    EXPECT_EQ(thread, 0);
    EXPECT_EQ(std::this_thread::get_id(), caller);
  });
}

}  // namespace
}  // namespace quire
