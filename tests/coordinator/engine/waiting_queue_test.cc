// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/waiting_queue.h"

#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

WaitingGroup Group(int64_t arrival, int32_t priority = 0) {
  WaitingGroup group;
  group.arrival = arrival;
  group.rank = priority;
  return group;
}

std::vector<std::pair<int32_t, int64_t>> Order(const WaitingQueue& queue) {
  std::vector<std::pair<int32_t, int64_t>> order;
  for (const WaitingGroup& group : queue.groups()) {
    order.push_back({group.rank, group.arrival});
  }
  return order;
}

TEST(WaitingQueueTest, ServesByPriorityThenArrival) {
  WaitingQueue queue;
  queue.Insert(Group(5));
  queue.Insert(Group(9, /*priority=*/-1));
  queue.Insert(Group(2));
  queue.Insert(Group(7));
  EXPECT_EQ(Order(queue), (std::vector<std::pair<int32_t, int64_t>>{
                              {-1, 9}, {0, 2}, {0, 5}, {0, 7}}));
  EXPECT_EQ(queue.head().arrival, 9);
}

TEST(WaitingQueueTest, FindsWhatIsThereAndNothingElse) {
  WaitingQueue queue;
  queue.Insert(Group(5));
  ASSERT_NE(queue.Find(0, 5), nullptr);
  queue.Find(0, 5)->num_bypasses = 3;
  EXPECT_EQ(queue.groups()[0].num_bypasses, 3);
  EXPECT_EQ(queue.Find(0, 4), nullptr);
  EXPECT_EQ(queue.Find(1, 5), nullptr);
  queue.Erase(0, 5);
  EXPECT_EQ(queue.Find(0, 5), nullptr);
  EXPECT_TRUE(queue.empty());
}

TEST(WaitingQueueDeathTest, ErasingWhatIsNotThereIsABug) {
  WaitingQueue queue;
  queue.Insert(Group(5));
  EXPECT_DEATH(queue.Erase(0, 6), "Check failed");
}

TEST(WaitingQueueTest, AgreesWithAnOrderedSetOverRandomOperations) {
  std::mt19937 random(3);
  WaitingQueue queue;
  std::set<std::pair<int32_t, int64_t>> model;
  int64_t next_arrival = 1000;
  for (int operation = 0; operation < 20000; ++operation) {
    const int kind = random() % 8;
    if (kind < 3) {
      queue.Insert(Group(next_arrival));
      model.insert({0, next_arrival++});
    } else if (kind == 3) {  // a preempted one returns near the head
      const int64_t arrival = random() % next_arrival;
      const int32_t priority = static_cast<int32_t>(random() % 3) - 1;
      if (!model.insert({priority, arrival}).second) continue;
      queue.Insert(Group(arrival, priority));
    } else if (!model.empty()) {
      auto it = model.begin();
      if (kind == 7) std::advance(it, random() % model.size());
      queue.Erase(it->first, it->second);
      model.erase(it);
    }
    ASSERT_EQ(queue.size(), model.size());
    if (operation % 50 == 0) {
      ASSERT_EQ(Order(queue), (std::vector<std::pair<int32_t, int64_t>>(
                                  model.begin(), model.end())));
    }
  }
}

}  // namespace
}  // namespace quire
