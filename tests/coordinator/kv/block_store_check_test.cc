// SPDX-License-Identifier: Apache-2.0
//
// The check of a store's books: silent whatever was done to it by the rules,
// and not when those who say that they hold something are one more or one
// fewer. That it sees what the store itself does wrong is shown by the mutants
// (mutants.bzl), which it must catch.
#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "coordinator/kv/block_store.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 2;
constexpr int32_t kNumBlocks = 12;
constexpr CacheScope kScope = 3;

// A store with sequences, which keeps its books as a manager does.
class Books {
 public:
  explicit Books(int32_t num_host_blocks)
      : store_({.num_blocks = kNumBlocks,
                .block_size = kBlockSize,
                .max_num_seqs = 8,
                .max_model_len = 16,
                .num_host_blocks = num_host_blocks,
                .demote_prefixes = true,
                .prefix_hash_key = {1, 2}}) {}

  // A sequence takes what is there of its tokens and blocks for the rest. False
  // if there are too few.
  bool Begin(uint64_t id, const std::vector<TokenId>& tokens) {
    std::vector<BlockPlace> places;
    const ReusableBlocks found = store_.FindReusable(
        {.sequence_id = SequenceId(id), .tokens = tokens, .scope = kScope},
        &places);
    const auto num_wanted =
        static_cast<int32_t>(tokens.size() + kBlockSize - 1) / kBlockSize;
    if (num_wanted > store_.pool().num_available()) return false;
    Running running = {.id = id, .tokens = tokens, .table = {}, .cursor = {}};
    std::vector<BlockId> blocks;
    store_.Reuse(places, &plan_, &blocks);
    for (const BlockId block : blocks) running.table.Append(block);
    const int32_t offset = found.num_computed % kBlockSize;
    if (offset > 0) Own(&running.table, offset);
    while (running.table.num_blocks() < num_wanted) {
      running.table.Append(store_.Take(&plan_));
    }
    running.cursor = found.cursor;
    running.cursor.scope = kScope;
    store_.Pin(running.cursor);
    store_.Forget(SequenceId(id));
    store_.Publish(tokens, static_cast<int32_t>(tokens.size()) / kBlockSize,
                   running.table, &running.cursor);
    running_.push_back(std::move(running));
    return true;
  }

  // Ends a sequence; it leaves its tokens, but the last one, if it `parks`.
  void End(size_t idx, bool parks, bool may_swap) {
    Running running = std::move(running_[idx]);
    running_.erase(running_.begin() + static_cast<int64_t>(idx));
    if (parks) {
      store_.Park(SequenceId(running.id),
                  static_cast<int32_t>(running.tokens.size()) - 1,
                  running.table, may_swap);
    }
    for (int32_t i = running.table.num_blocks(); i > 0; --i) {
      store_.Drop(running.table.block(i - 1));
    }
    store_.Unpin(running.cursor);
  }

  std::vector<int32_t> Owners() const {
    std::vector<int32_t> num_owners(kNumBlocks);
    for (const Running& running : running_) {
      for (const BlockId block : running.table.blocks()) {
        ++num_owners[block.value()];
      }
    }
    return num_owners;
  }
  std::vector<PrefixCursor> Cursors() const {
    std::vector<PrefixCursor> cursors;
    for (const Running& running : running_) cursors.push_back(running.cursor);
    return cursors;
  }
  absl::Status Check() const {
    return store_.CheckInvariants(Owners(), Cursors());
  }

  BlockStore& store() { return store_; }
  bool IsRunning(uint64_t id) const {
    return std::any_of(
        running_.begin(), running_.end(),
        [id](const Running& running) { return running.id == id; });
  }
  size_t num_running() const { return running_.size(); }
  size_t num_swaps() const {
    return plan_.swap_ins.size() + plan_.swap_outs.size();
  }

 private:
  struct Running {
    uint64_t id = 0;
    std::vector<TokenId> tokens;
    BlockTable table;
    PrefixCursor cursor;
  };

  // The last block is to be written from `offset` on.
  void Own(BlockTable* table, int32_t offset) {
    const int32_t last = table->num_blocks() - 1;
    if (store_.pool().num_refs(table->block(last)) == 1) {
      store_.PrepareWrite(table->block(last), offset);
      return;
    }
    const BlockCopy copy = table->Replace(last, store_.Take(&plan_));
    store_.Drop(copy.src);
  }

  BlockStore store_;
  StepPlan plan_;
  std::vector<Running> running_;
};

TEST(BlockStoreCheckTest, WhateverIsDoneByTheRulesTheBooksBalance) {
  size_t num_swaps = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    Books books(/*num_host_blocks=*/static_cast<int32_t>(seed % 3) * 5);
    for (int step = 0; step < 200; ++step) {
      const uint64_t id = 1 + random() % 8;
      switch (random() % 4) {
        case 0:
        case 1: {
          // Those that ended parked come back under their names, as they were.
          if (books.IsRunning(id)) break;
          std::vector<TokenId> tokens;
          for (uint64_t i = 0; i < 2 + id; ++i) {
            tokens.push_back(static_cast<TokenId>(i < 5 ? 1 : id));
          }
          books.Begin(id, tokens);
          break;
        }
        case 2:
          if (books.num_running() > 0) {
            books.End(random() % books.num_running(), random() % 2 == 0,
                      random() % 2 == 0);
          }
          break;
        case 3:
          books.store().Forget(SequenceId(id));
          if (random() % 20 == 0) books.store().ForgetAll();
          break;
      }
      const absl::Status status = books.Check();
      ASSERT_TRUE(status.ok())
          << status << " seed " << seed << " step " << step;
    }
    num_swaps += books.num_swaps();
  }
  EXPECT_GT(num_swaps, 100);
}

TEST(BlockStoreCheckTest, AnOwnerMoreOrFewerIsNoticedOfEachBlock) {
  Books books(/*num_host_blocks=*/0);
  ASSERT_TRUE(books.Begin(1, {1, 2, 3, 4, 5}));
  ASSERT_TRUE(books.Begin(2, {1, 2, 3, 4, 6}));
  ASSERT_TRUE(books.Check().ok()) << books.Check();
  for (int32_t block = 0; block < kNumBlocks; ++block) {
    for (const int32_t difference : {-1, 1}) {
      std::vector<int32_t> num_owners = books.Owners();
      num_owners[block] += difference;
      EXPECT_EQ(
          books.store().CheckInvariants(num_owners, books.Cursors()).code(),
          absl::StatusCode::kInternal)
          << "block " << block << ", " << difference;
    }
  }
}

TEST(BlockStoreCheckTest, ACursorThatIsNotPinnedOrPinnedAndForgottenIsNoticed) {
  Books books(/*num_host_blocks=*/0);
  ASSERT_TRUE(books.Begin(1, {1, 2, 3, 4, 5}));
  std::vector<PrefixCursor> cursors = books.Cursors();
  ASSERT_EQ(cursors.size(), 1);
  EXPECT_EQ(books.store().CheckInvariants(books.Owners(), {}).code(),
            absl::StatusCode::kInternal);
  cursors.push_back(cursors[0]);
  EXPECT_EQ(books.store().CheckInvariants(books.Owners(), cursors).code(),
            absl::StatusCode::kInternal);
  books.store().Pin(cursors[0]);
  EXPECT_TRUE(books.store().CheckInvariants(books.Owners(), cursors).ok());
  EXPECT_FALSE(books.Check().ok());
  books.store().Unpin(cursors[0]);
  // One that has published nothing pins nothing.
  cursors[1] = {.scope = kScope};
  EXPECT_TRUE(books.store().CheckInvariants(books.Owners(), cursors).ok());
}

TEST(BlockStoreCheckTest, WhatIsParkedIsNobodysButIsKept) {
  Books books(/*num_host_blocks=*/4);
  ASSERT_TRUE(books.Begin(1, {1, 2, 3}));
  books.End(0, /*parks=*/true, /*may_swap=*/true);
  EXPECT_TRUE(books.Check().ok()) << books.Check();
  EXPECT_EQ(books.store().pool().num_cached(), 1);
  // A block that has a note has no owner for that.
  EXPECT_FALSE(books.store()
                   .CheckInvariants(std::vector<int32_t>(kNumBlocks, 1), {})
                   .ok());
  books.store().Forget(SequenceId(1));
  EXPECT_TRUE(books.Check().ok()) << books.Check();
}

}  // namespace
}  // namespace quire
