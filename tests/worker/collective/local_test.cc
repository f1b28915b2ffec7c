// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/local.h"

#include <functional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

void OnEveryRank(LocalGroup& group,
                 const std::function<void(Collective&)>& body) {
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < group.world_size(); ++rank) {
    threads.emplace_back([&, rank] { body(*group.collective(rank)); });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(LocalGroupTest, AllReduceGivesEveryRankTheSumManyTimesOver) {
  for (int32_t world : {1, 2, 4}) {
    LocalGroup group(world);
    OnEveryRank(group, [&](Collective& ranks) {
      for (int64_t n : {0, 1, 7, 33, 1000, 5000}) {
        std::vector<float> data(n);
        for (int64_t i = 0; i < n; ++i) data[i] = (ranks.rank() + 1) * (i + 1);
        ASSERT_TRUE(ranks.AllReduceSum(data.data(), n, DType::kF32).ok());
        for (int64_t i = 0; i < n; ++i) {
          ASSERT_EQ(data[i], world * (world + 1) / 2 * (i + 1));
        }
      }
    });
  }
}

TEST(LocalGroupTest, AllGatherOrdersByRankAlsoInPlace) {
  LocalGroup group(3);
  OnEveryRank(group, [](Collective& ranks) {
    for (int32_t round = 0; round < 50; ++round) {
      std::vector<int32_t> out(6, -1);
      int32_t* mine = &out[2 * ranks.rank()];
      mine[0] = ranks.rank() * 100 + round;
      mine[1] = -mine[0];
      ASSERT_TRUE(ranks.AllGather(mine, out.data(), 8).ok());
      for (int32_t peer = 0; peer < 3; ++peer) {
        ASSERT_EQ(out[2 * peer], peer * 100 + round);
        ASSERT_EQ(out[2 * peer + 1], -(peer * 100 + round));
      }
    }
  });
}

TEST(LocalGroupTest, AMissingRankIsUnavailableAndStaysSo) {
  LocalGroup group(2, absl::Milliseconds(1));
  EXPECT_EQ(group.collective(0)->Barrier().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(group.collective(1)->Barrier().code(),
            absl::StatusCode::kUnavailable);
}

TEST(LocalGroupTest, BreakEndsAWait) {
  LocalGroup group(2);
  std::thread waiting([&] {
    EXPECT_EQ(group.collective(0)->Barrier().code(),
              absl::StatusCode::kUnavailable);
  });
  group.Break();
  waiting.join();
}

}  // namespace
}  // namespace quire
