// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/whole_rows.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/listed_choice.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/sampler/sharded_logits.h"
#include "worker/collective/local.h"

namespace quire {
namespace {

constexpr int32_t kRows = 50;  // a few pieces of 16

// The slots whose rows a chooser reads, of which top_k leaves many, among
// others that shards decide.
SlotStates States(const std::vector<int32_t>& read) {
  SlotLimits limits;
  limits.max_num_seqs = kRows;
  limits.max_model_len = 16;
  limits.block_size = 16;
  limits.num_blocks = kRows;
  limits.vocab_size = 7;
  SlotStates states(limits);
  StepPlan plan;
  for (int32_t i = 0; i < kRows; ++i) {
    AdmittedSlot admitted;
    admitted.slot = SlotId(i);
    admitted.tokens = {1};
    admitted.num_prompt_tokens = 1;
    admitted.cache = std::vector<BlockId>{BlockId(i)};
    admitted.sampling.temperature = 1;
    if (std::find(read.begin(), read.end(), i) != read.end()) {
      admitted.sampling.top_k = kMaxListed + 1;
    } else if (i % 3 == 1) {
      admitted.sampling.top_k = 3;
    } else if (i % 3 == 2) {
      admitted.sampling.top_p = 0.5f;
    }
    plan.admitted.push_back(std::move(admitted));
  }
  EXPECT_TRUE(states.Apply(plan).ok());
  return states;
}

std::unique_ptr<DeviceChooser> Reader(FakeBackend* backend, int32_t vocab) {
  backend->set_chooses_shaped();
  return *DeviceChooser::Create(backend, vocab, kRows, /*seen=*/nullptr,
                                /*is_group=*/true);
}

// Every rank gathers the rows of a vocabulary that is cut as models cut it.
void ExpectWholeRows(int32_t world, int32_t vocab,
                     const std::vector<int32_t>& read,
                     int32_t num_rows = kRows) {
  std::vector<float> logits(int64_t{num_rows} * vocab);
  std::iota(logits.begin(), logits.end(), 0.5f);
  const SlotStates states = States(read);
  std::vector<SlotId> slots;
  for (int32_t i = 0; i < num_rows; ++i) slots.push_back(SlotId(i));
  LocalGroup group(world);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < world; ++rank) {
    ranks.emplace_back([&, rank] {
      const VocabShard shard = ShardOf(vocab, rank, world);
      const std::vector<float> own = ColumnsOf(logits, vocab, shard);
      FakeBackend backend;
      const auto whole =
          WholeRows::Create(&backend, group.collective(rank), shard, num_rows);
      ASSERT_TRUE(whole.ok()) << whole.status();
      ASSERT_EQ((*whole)->num_vocab(), vocab);
      const absl::Status status =
          (*whole)->Gather(own.data(), slots, states, *Reader(&backend, vocab));
      ASSERT_TRUE(status.ok()) << status;
      for (const int32_t row : read) {
        const float* got = (*whole)->rows() + int64_t{row} * vocab;
        EXPECT_TRUE(std::equal(got, got + vocab, logits.begin() + row * vocab))
            << "row " << row << " of rank " << rank << " of " << world;
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

TEST(WholeRowsTest, EveryRankGetsTheRowsThatAreRead) {
  std::vector<int32_t> all;
  for (int32_t row = 0; row < kRows; ++row) all.push_back(row);
  for (const int32_t world : {2, 4}) {
    // Shards that are equal and that are not, empty ones, of one run and of
    // several.
    for (const int32_t vocab : {8, 9, 97, 2053, 4096}) {
      ExpectWholeRows(world, vocab, all);
      ExpectWholeRows(world, vocab, {0});
      ExpectWholeRows(world, vocab, {kRows - 1});
      ExpectWholeRows(world, vocab, {3, 4, 18, 20, 40});
    }
  }
}

TEST(WholeRowsTest, VocabulariesOfAnySizeTravelRowByRowAtLeast) {
  // More than half of what travels at a time.
  ExpectWholeRows(2, 1100003, {0, 1, 2}, /*num_rows=*/3);
}

TEST(WholeRowsTest, RowsThatNobodyReadsDoNotTravel) {
  LocalGroup group(2);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      FakeBackend backend;
      const auto whole = WholeRows::Create(&backend, group.collective(rank),
                                           {4 * rank, 4}, kRows);
      ASSERT_TRUE(whole.ok()) << whole.status();
      ASSERT_TRUE(group.collective(rank)->Barrier().ok());
      // Whoever called a peer now would fail.
      group.Break();
      const std::vector<SlotId> slots = {SlotId(0), SlotId(1)};
      const std::vector<float> own(8);
      const auto reader = Reader(&backend, 8);
      EXPECT_TRUE(
          (*whole)->Gather(own.data(), slots, States({}), *reader).ok());
      EXPECT_FALSE(
          (*whole)->Gather(own.data(), slots, States({1}), *reader).ok());
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace
}  // namespace quire
