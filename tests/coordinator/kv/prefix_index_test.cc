// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/prefix_index.h"

#include <map>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr HashKey kKey = {1, 2};
constexpr PrefixNodeId kNoNode = PrefixIndex::kNoNode;

// A node with a place and no pin of ours.
PrefixNodeId Add(PrefixIndex* index, CacheScope scope, PrefixNodeId parent,
                 const std::vector<TokenId>& tokens, int32_t block) {
  const PrefixNodeId node = index->FindOrInsert(scope, parent, tokens);
  index->SetPlace(node, BlockPlace(BlockId(block)));
  index->Unpin(node);
  return node;
}

TEST(PrefixIndexTest, ABlockIsFoundAfterItsOwnBeginningOnly) {
  PrefixIndex index(/*block_size=*/2, /*num_blocks=*/8, kKey);
  const PrefixNodeId first = Add(&index, 1, kNoNode, {5, 6}, 0);
  const PrefixNodeId second = Add(&index, 1, first, {7, 8}, 1);
  EXPECT_EQ(index.Find(1, kNoNode, {5, 6}), first);
  EXPECT_EQ(index.Find(1, first, {7, 8}), second);
  EXPECT_EQ(index.Find(1, kNoNode, {7, 8}), kNoNode);
  EXPECT_EQ(index.Find(1, second, {7, 8}), kNoNode);
  EXPECT_EQ(index.Find(2, kNoNode, {5, 6}), kNoNode);
  EXPECT_EQ(index.place(second), BlockPlace(BlockId(1)));
  EXPECT_EQ(index.parent(second), first);
  EXPECT_EQ(index.key(second),
            ChainKey(kKey, ChainKey(kKey, ScopeKey(kKey, 1), {5, 6}), {7, 8}));
}

TEST(PrefixIndexTest, AGapStaysWhileSomethingFollowsIt) {
  PrefixIndex index(2, 8, kKey);
  const PrefixNodeId first = Add(&index, 1, kNoNode, {5, 6}, 0);
  const PrefixNodeId second = Add(&index, 1, first, {7, 8}, 1);
  index.SetPlace(first, BlockPlace());
  EXPECT_EQ(index.Find(1, kNoNode, {5, 6}), first);
  EXPECT_TRUE(index.place(first).is_nowhere());
  // What comes back is the beginning of what follows it.
  EXPECT_EQ(Add(&index, 1, kNoNode, {5, 6}, 4), first);
  index.SetPlace(first, BlockPlace());
  index.SetPlace(second, BlockPlace());
  EXPECT_EQ(index.num_nodes(), 0);
  EXPECT_EQ(index.Find(1, kNoNode, {5, 6}), kNoNode);
}

TEST(PrefixIndexTest, APinnedNodeAndItsAncestorsStay) {
  PrefixIndex index(2, 8, kKey);
  const PrefixNodeId first = index.FindOrInsert(1, kNoNode, {5, 6});
  const PrefixNodeId second = index.FindOrInsert(1, first, {7, 8});
  index.Unpin(first);
  EXPECT_EQ(index.num_nodes(), 2);
  std::vector<int32_t> num_pins(index.max_nodes());
  num_pins[second.value()] = 1;
  EXPECT_TRUE(index.CheckInvariants(num_pins).ok());
  EXPECT_FALSE(index.CheckInvariants({}).ok());
  index.Unpin(second);
  EXPECT_EQ(index.num_nodes(), 0);
}

// A tree as a map from (scope, all tokens) to a place.
TEST(PrefixIndexTest, AgreesWithAMapOverRandomOperations) {
  constexpr int32_t kBlockSize = 2;
  using Prefix = std::pair<CacheScope, std::vector<TokenId>>;
  std::mt19937 random(3);
  // Far too small at first, so that it grows.
  PrefixIndex index(kBlockSize, /*num_blocks=*/1, kKey);
  std::map<Prefix, int32_t> model;  // of those that have a place
  for (int operation = 0; operation < 100000; ++operation) {
    Prefix prefix = {random() % 2 + 1, {}};
    const int32_t num_blocks = 1 + random() % 5;
    for (int32_t i = 0; i < kBlockSize * num_blocks; ++i) {
      prefix.second.push_back(random() % 3);
    }
    // Walks as far as there are nodes.
    PrefixNodeId node = kNoNode;
    int32_t depth = 0;
    const auto tokens = [&](int32_t idx) {
      return absl::MakeConstSpan(&prefix.second[idx * kBlockSize], kBlockSize);
    };
    while (depth < num_blocks) {
      const PrefixNodeId next = index.Find(prefix.first, node, tokens(depth));
      if (next == kNoNode) break;
      node = next;
      ++depth;
      const Prefix part = {
          prefix.first,
          {prefix.second.begin(), prefix.second.begin() + depth * kBlockSize}};
      const auto known = model.find(part);
      ASSERT_EQ(index.place(node), known == model.end()
                                       ? BlockPlace()
                                       : BlockPlace(BlockId(known->second)));
    }
    const auto known = model.find(prefix);
    if (known != model.end()) {
      ASSERT_EQ(depth, num_blocks);  // what has a place is found
      index.SetPlace(node, BlockPlace());
      model.erase(known);
      continue;
    }
    if (random() % 3 != 0) continue;
    node = kNoNode;
    for (int32_t idx = 0; idx < num_blocks; ++idx) {
      const PrefixNodeId next =
          index.FindOrInsert(prefix.first, node, tokens(idx));
      index.Unpin(std::exchange(node, next));
    }
    index.SetPlace(node, BlockPlace(BlockId(operation)));
    index.Unpin(node);
    model.emplace(prefix, operation);
    if (operation % 1000 == 0) {
      ASSERT_TRUE(index.CheckInvariants({}).ok());
    }
  }
  EXPECT_GT(model.size(), 500);
  EXPECT_TRUE(index.CheckInvariants({}).ok());
}

}  // namespace
}  // namespace quire
