// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/service_order.h"

#include <limits>

#include "coordinator/scheduler/policy.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

absl::Time At(double seconds) {
  return absl::UnixEpoch() + absl::Seconds(seconds);
}

TEST(ServiceOrderTest, WithoutAgeingOnlyThePriorityCounts) {
  const ServiceOrder order(absl::ZeroDuration());
  EXPECT_LT(order.Rank(0, At(1000)), order.Rank(1, At(0)));
  EXPECT_EQ(order.Rank(1, At(0)), order.Rank(1, At(5)));
}

TEST(ServiceOrderTest, APeriodMakesUpForALevel) {
  const ServiceOrder order(absl::Seconds(5));
  EXPECT_LT(order.Rank(0, At(9.9)), order.Rank(2, At(0)));
  EXPECT_GT(order.Rank(0, At(10.1)), order.Rank(2, At(0)));
  EXPECT_LT(order.Rank(1, At(0)), order.Rank(1, At(0.1)));
}

TEST(ServiceOrderTest, ALevelIsGainedAtTheEndOfEachPeriod) {
  const ServiceOrder order(absl::Seconds(5));
  View view;
  view.rank_per_level = order.rank_per_level();
  const auto level = [&](double now) {
    view.rank_now = order.RankNow(At(now));
    return view.LevelOf(order.Rank(2, At(100)));
  };
  EXPECT_EQ(level(100), 2);
  EXPECT_EQ(level(104.9), 2);
  EXPECT_EQ(level(105), 1);
  EXPECT_EQ(level(111), 0);
  EXPECT_EQ(level(116), -1);
}

TEST(ServiceOrderTest, NoPriorityOverflows) {
  const ServiceOrder order(kMaxPriorityAgeing);
  const absl::Time now = absl::FromUnixSeconds(4000000000);
  EXPECT_LT(order.Rank(std::numeric_limits<int32_t>::min(), now),
            order.Rank(0, now));
  EXPECT_GT(order.Rank(std::numeric_limits<int32_t>::max(), now),
            order.Rank(0, now));
}

}  // namespace
}  // namespace quire
