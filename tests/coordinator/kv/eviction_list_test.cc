// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/eviction_list.h"

#include <algorithm>
#include <list>
#include <random>

#include "common/ids.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(EvictionListTest, WhoJoinedFirstGoesFirst) {
  EvictionList<BlockId> list(/*num_ids=*/4);
  list.PushBack(BlockId(2));
  list.PushBack(BlockId(0));
  list.PushBack(BlockId(3));
  EXPECT_EQ(list.front(), BlockId(2));
  list.Remove(BlockId(2));
  list.Remove(BlockId(3));
  EXPECT_EQ(list.front(), BlockId(0));
  EXPECT_FALSE(list.contains(BlockId(2)));
  EXPECT_EQ(list.size(), 1);
}

TEST(EvictionListTest, AgreesWithAListOverRandomOperations) {
  constexpr int32_t kNumIds = 23;
  std::mt19937 random(5);
  EvictionList<BlockId> list(kNumIds);
  std::list<BlockId> model;
  for (int operation = 0; operation < 100000; ++operation) {
    const BlockId id(random() % kNumIds);
    const auto it = std::find(model.begin(), model.end(), id);
    ASSERT_EQ(list.contains(id), it != model.end());
    if (it == model.end()) {
      list.PushBack(id);
      model.push_back(id);
    } else {
      list.Remove(id);
      model.erase(it);
    }
    ASSERT_EQ(list.size(), static_cast<int32_t>(model.size()));
    if (!model.empty()) {
      ASSERT_EQ(list.front(), model.front());
    }
  }
}

}  // namespace
}  // namespace quire
