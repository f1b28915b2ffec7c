// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_store.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr CacheScope kScope = 3;

KvOptions Options(int32_t num_host_blocks) {
  return {.num_blocks = 2,
          .block_size = 2,
          .max_num_seqs = 1,
          .max_model_len = 16,
          .num_host_blocks = num_host_blocks,
          .demote_prefixes = true,
          .prefix_hash_key = {1, 2}};
}

// Publishes `tokens` in new blocks and drops them, so that they are cached.
void CachePrefix(BlockStore* store, const std::vector<TokenId>& tokens) {
  BlockTable table;
  StepPlan plan;
  PrefixCursor cursor = {.scope = kScope};
  const int32_t num_blocks = static_cast<int32_t>(tokens.size()) / 2;
  for (int32_t i = 0; i < num_blocks; ++i) table.Append(store->Take(&plan));
  store->Publish(tokens, num_blocks, table, &cursor);
  for (int32_t i = num_blocks; i > 0; --i) store->Drop(table.block(i - 1));
  store->Unpin(cursor);
}

ReusableBlocks Find(const BlockStore& store, const std::vector<TokenId>& tokens,
                    std::vector<BlockPlace>* places) {
  places->clear();
  return store.FindReusable(
      {.sequence_id = SequenceId(1), .tokens = tokens, .scope = kScope},
      places);
}

TEST(BlockStoreTest, OnlyWantedContentsAreCached) {
  BlockStore store(Options(0));
  StepPlan plan;
  store.Drop(store.Take(&plan));
  EXPECT_EQ(store.pool().num_free(), 2);
  CachePrefix(&store, {5, 6});
  EXPECT_EQ(store.pool().num_free(), 1);
  EXPECT_EQ(store.pool().num_cached(), 1);
  EXPECT_TRUE(store.CheckInvariants({0, 0}, {}).ok());
}

TEST(BlockStoreTest, APrefixIsFoundWhereverItWent) {
  BlockStore store(Options(/*num_host_blocks=*/2));
  CachePrefix(&store, {5, 6, 7, 8});
  std::vector<BlockPlace> places;
  ReusableBlocks found = Find(store, {5, 6, 7, 8, 9}, &places);
  EXPECT_EQ(found.num_computed, 4);
  ASSERT_EQ(places.size(), 2);
  const BlockPlace tail = places[1];
  EXPECT_TRUE(tail.is_device());
  StepPlan plan;
  const BlockId taken = store.Take(&plan);
  EXPECT_EQ(BlockPlace(taken), tail);
  ASSERT_EQ(plan.swap_outs.size(), 1);
  found = Find(store, {5, 6, 7, 8, 9}, &places);
  EXPECT_EQ(found.num_computed, 4);
  EXPECT_EQ(found.cursor.num_blocks, 2);
  EXPECT_EQ(places[1], BlockPlace(plan.swap_outs[0].host));
  // It needs a block more than there is, but nothing is lost by asking.
  store.Drop(taken);
  std::vector<BlockId> blocks;
  store.Reuse(places, &plan, &blocks);
  EXPECT_EQ(blocks.size(), 2);
  EXPECT_EQ(plan.swap_ins.size(), 1);
  EXPECT_EQ(store.host_pool().num_free(), 2);
  EXPECT_TRUE(store.CheckInvariants({1, 1}, {}).ok());
}

TEST(BlockStoreTest, NoPrefixIsFoundBeyondTheTokensThatAreCommon) {
  BlockStore store(Options(/*num_host_blocks=*/0));
  CachePrefix(&store, {5, 6, 7, 8});
  const std::vector<TokenId> tokens = {5, 6, 7, 8, 9};
  for (const auto& [num_common, num_found] :
       {std::pair<int32_t, int32_t>{4, 4}, {3, 2}, {2, 2}, {1, 0}}) {
    EXPECT_EQ(store
                  .CountReusable({.sequence_id = SequenceId(1),
                                  .tokens = tokens,
                                  .scope = kScope,
                                  .num_common_tokens = num_common})
                  .num_computed_tokens,
              num_found);
  }
}

TEST(BlockStoreTest, WhatIsParkedComesBackThoughItIsNotCommon) {
  BlockStore store(Options(/*num_host_blocks=*/0));
  StepPlan plan;
  BlockTable table;
  for (int i = 0; i < 2; ++i) table.Append(store.Take(&plan));
  store.Park(SequenceId(1), /*num_computed=*/3, table, /*may_swap=*/false);
  for (int i = 1; i >= 0; --i) store.Drop(table.block(i));
  const std::vector<TokenId> tokens = {5, 6, 7, 8, 9};
  EXPECT_EQ(store
                .CountReusable({.sequence_id = SequenceId(1),
                                .tokens = tokens,
                                .scope = kScope,
                                .num_common_tokens = 0})
                .num_computed_tokens,
            3);
}

TEST(BlockStoreTest, WithoutAHostWhatIsEvictedIsLost) {
  BlockStore store(Options(0));
  CachePrefix(&store, {5, 6, 7, 8});
  StepPlan plan;
  store.Take(&plan);
  EXPECT_EQ(plan, StepPlan());
  std::vector<BlockPlace> places;
  EXPECT_EQ(Find(store, {5, 6, 7, 8, 9}, &places).num_computed, 2);
}

TEST(BlockStoreTest, AForkedCursorStandsNoFurtherThanItsBlocks) {
  BlockStore store(Options(0));
  BlockTable table;
  StepPlan plan;
  PrefixCursor cursor = {.scope = kScope};
  table.Append(store.Take(&plan));
  table.Append(store.Take(&plan));
  store.Publish({5, 6, 7, 8}, 2, table, &cursor);
  const PrefixCursor fork = store.ForkCursor(cursor, /*num_blocks=*/1);
  EXPECT_EQ(fork.num_blocks, 1);
  EXPECT_EQ(fork.node, store.index().parent(cursor.node));
  EXPECT_TRUE(store.CheckInvariants({1, 1}, {cursor, fork}).ok());
}

TEST(BlockStoreTest, AnOwnerThatIsNotThereIsNoticed) {
  BlockStore store(Options(0));
  StepPlan plan;
  ASSERT_EQ(store.Take(&plan), BlockId(0));
  EXPECT_TRUE(store.CheckInvariants({1, 0}, {}).ok());
  EXPECT_EQ(store.CheckInvariants({2, 0}, {}).message(),
            "KV block 0 has 1 references but 2 owners");
}

}  // namespace
}  // namespace quire
