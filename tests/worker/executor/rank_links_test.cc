// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/rank_links.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "worker/collective/local.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

TEST(MeasureLinksTest, EveryRankOfAGroupTimesTheSameSizes) {
  for (const bool is_recorded : {false, true}) {
    LocalGroup group(2);
    const RealClock clock;
    std::vector<std::thread> ranks;
    for (int32_t rank = 0; rank < 2; ++rank) {
      ranks.emplace_back([&, rank] {
        FakeBackend backend;
        const auto links =
            MeasureLinks(&backend, group.collective(rank), is_recorded, clock);
        ASSERT_TRUE(links.ok()) << links.status();
        EXPECT_EQ(links->collective, "local");
        ASSERT_EQ(links->all_reduce.size(), 4);
        EXPECT_EQ(links->all_reduce.front().bytes, 8 << 10);
        EXPECT_EQ(links->all_reduce.back().bytes, 4 << 20);
        for (const AllReduceTime& time : links->all_reduce) {
          EXPECT_GT(time.us, 0) << time.bytes;
        }
      });
    }
    for (std::thread& rank : ranks) rank.join();
  }
}

TEST(MeasureLinksTest, OneAloneHasNone) {
  SoloCollective solo;
  FakeBackend backend;
  const auto links =
      MeasureLinks(&backend, &solo, /*is_recorded=*/true, RealClock());
  ASSERT_TRUE(links.ok());
  EXPECT_TRUE(links->collective.empty());
  EXPECT_TRUE(links->all_reduce.empty());
}

}  // namespace
}  // namespace quire
