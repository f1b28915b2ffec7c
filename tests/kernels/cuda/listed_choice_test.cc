// SPDX-License-Identifier: Apache-2.0
#include "kernels/listed_choice.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/sharded_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire {
namespace {

class ListedChoiceTest : public ShardedChoiceFixture {
 protected:
  // From the lists of shards, which one device makes one after the other.
  static Tokens Sharded(const World& world, const Cut& cut) {
    const int32_t num_rows = static_cast<int32_t>(world.filtered.size());
    int32_t max_tokens = 0;
    for (const ShapedRow& row : world.filtered) {
      max_tokens = std::max(max_tokens, row.top_k);
    }
    const ShapedRow* const rows = ToDevice(world.filtered);
    // What nobody writes is such as would be noticed.
    const int64_t shard_tokens = int64_t{num_rows} * (1 + max_tokens);
    ListedToken* const lists = ToDevice(
        std::vector<ListedToken>(cut.size() * shard_tokens, {1e30f, kPoison}));
    int32_t first_id = 0;
    for (size_t shard = 0; shard < cut.size(); ++shard) {
      const absl::Status status =
          backend_->ListTokens({.logits = Columns(world, first_id, cut[shard]),
                                .num_vocab = cut[shard],
                                .first_id = first_id,
                                .rows = rows,
                                .num_rows = num_rows,
                                .max_tokens = max_tokens,
                                .lists = lists + shard * shard_tokens});
      CHECK(status.ok()) << status;
      first_id += cut[shard];
    }
    CHECK_EQ(first_id, world.num_vocab);
    const std::vector<int32_t> poison(world.num_rows(), kPoison);
    int32_t* const tokens = ToDevice(poison);
    int32_t* const by_slot = ToDevice(poison);
    const absl::Status status =
        backend_->MergeLists({.lists = lists,
                              .rows = rows,
                              .tokens = tokens,
                              .by_slot = by_slot,
                              .num_shards = static_cast<int32_t>(cut.size()),
                              .num_rows = num_rows,
                              .max_tokens = max_tokens});
    CHECK(status.ok()) << status;
    return Fetch(tokens, by_slot, world.num_rows());
  }

  static void ExpectShardsChooseAsWholeRowsDo(const World& world) {
    const Tokens want = Whole(world);
    for (const Cut& cut : CutsOf(world.num_vocab)) {
      const Tokens got = Sharded(world, cut);
      EXPECT_EQ(got.by_slot, got.by_row);
      for (int32_t row = 0; row < world.num_rows(); ++row) {
        EXPECT_EQ(got.by_row[row], want.by_row[row])
            << "row " << row << " of " << world.num_vocab << " in "
            << cut.size() << " shards";
      }
    }
  }
};

// Every kind of logits with each top_k and all filters beside it.
World ListedWorld(int32_t num_vocab, int32_t num_rows, uint64_t seed,
                  const std::vector<int32_t>& top_ks) {
  World world(num_vocab);
  std::mt19937_64 random(seed);
  for (int32_t i = 0; i < num_rows; ++i) {
    ShapedRow row = world.AddRow(RandomLogits(num_vocab, i % 6, &random));
    row.seed = random();
    row.position = static_cast<int32_t>(random() % 100000);
    row.temperature = (1 + random() % 4) * 0.45f;
    row.top_k = top_ks[random() % top_ks.size()];
    if (random() % 2 == 0) row.top_p = 0.05f + (random() % 19) * 0.05f;
    if (random() % 3 == 0) row.min_p = 0.001f * (random() % 300 + 1);
    world.Choose(row);
  }
  return world;
}

class VocabularyTest : public ListedChoiceTest,
                       public testing::WithParamInterface<int32_t> {};

TEST_P(VocabularyTest, ShardsChooseAsWholeRowsDo) {
  const int32_t num_vocab = GetParam();
  const int32_t num_rows = num_vocab > 10000 ? 36 : 120;
  ExpectShardsChooseAsWholeRowsDo(
      ListedWorld(num_vocab, num_rows, 7, {1, 2, 50, 1000, 1024}));
}

TEST_P(VocabularyTest, ShortListsChooseAsWholeRowsDo) {
  ExpectShardsChooseAsWholeRowsDo(ListedWorld(GetParam(), 24, 8, {1, 2, 50}));
}

INSTANTIATE_TEST_SUITE_P(Odd, VocabularyTest,
                         testing::Values(211, 1024, 1025, 8193, 50257, 128256),
                         [](const auto& info) {
                           return "Vocabulary" + std::to_string(info.param);
                         });

TEST_F(ListedChoiceTest, ShardsChooseAsTheReferenceDoes) {
  const World world = ListedWorld(8193, 90, 11, {1, 2, 50, 1024});
  const Tokens got = Sharded(world, CutsOf(world.num_vocab).back());
  for (const ShapedRow& row : world.filtered) {
    const reference::ChosenToken want = reference::Choose(
        world.logits.data() + int64_t{row.row} * world.num_vocab,
        world.num_vocab, row, /*allowed=*/nullptr);
    if (want.margin < 1e-9) continue;  // sums in double precision decide
    EXPECT_EQ(got.by_row[row.row], want.token) << "row " << row.row;
  }
}

TEST_F(ListedChoiceTest, OfEqualLogitsTheLowerIdsOfAllShardsStay) {
  World world(5000);
  for (int i = 0; i < 64; ++i) {
    // Seven of them in the first two of the shards below.
    std::vector<float> logits(5000, 0.0f);
    for (int32_t id = 996; id < 5000; id += 2) logits[id] = 2;
    ShapedRow row = world.AddRow(logits);
    row.seed = i;
    row.top_k = 7;
    world.Choose(row);
  }
  const Tokens got = Sharded(world, {1000, 1000, 3000});
  std::vector<int> times(7);
  for (const int32_t token : got.by_row) {
    ASSERT_GE(token, 996);
    ASSERT_LE(token, 1008);
    ++times[(token - 996) / 2];
  }
  for (const int count : times) EXPECT_GT(count, 0);
  EXPECT_EQ(got, Whole(world));
}

// Words whose only set bit is the sign's may be lost between ranks.
TEST_F(ListedChoiceTest, ZerosOfEitherSignAreEqual) {
  World world(300);
  for (int i = 0; i < 32; ++i) {
    std::vector<float> logits(300, -1.0f);
    for (int32_t id = 0; id < 300; id += 3) logits[id] = id % 2 ? 0.0f : -0.0f;
    ShapedRow row = world.AddRow(logits);
    row.seed = i;
    row.top_k = 60;
    if (i % 2 == 0) row.top_p = 0.5f;
    world.Choose(row);
  }
  ExpectShardsChooseAsWholeRowsDo(world);
}

TEST_F(ListedChoiceTest, WhatCannotBeChosenIsNamed) {
  constexpr int32_t kVocab = 5000;
  World world(kVocab);
  std::vector<int32_t> want;
  std::vector<FixedRow> rows = FixedRows(kVocab);
  // Finite, and below all floats at this temperature.
  rows.push_back({std::vector<float>(kVocab, -1e38f), 1e-3f, kNoToken});
  for (const FixedRow& fixed : rows) {
    for (const float top_p : {1.0f, 0.5f}) {
      ShapedRow row = world.AddRow(fixed.logits);
      row.temperature = fixed.temperature;
      row.top_k = 10;
      row.top_p = top_p;
      world.Choose(row);
      want.push_back(fixed.outcome);
    }
  }
  EXPECT_EQ(Whole(world).by_row, want);
  for (const Cut& cut : CutsOf(kVocab)) {
    EXPECT_EQ(Sharded(world, cut).by_row, want) << cut.size() << " shards";
  }
}

TEST_F(ListedChoiceTest, ARunRepeatsAndOtherRowsDoNotChangeARow) {
  const World all = ListedWorld(50257, 200, 3, {1, 50, 1024});
  const Cut cut = CutsOf(all.num_vocab).back();
  const Tokens together = Sharded(all, cut);
  EXPECT_EQ(Sharded(all, cut), together);
  for (const int32_t row : {0, 17, 101, 199}) {
    World alone(all.num_vocab);
    const auto begin = all.logits.begin() + int64_t{row} * all.num_vocab;
    alone.AddRow({begin, begin + all.num_vocab});
    ShapedRow shaped = all.filtered[row];
    shaped.row = shaped.slot = 0;
    alone.Choose(shaped);
    EXPECT_EQ(Sharded(alone, cut).by_row[0], together.by_row[row]);
  }
}

TEST_F(ListedChoiceTest, ARowIsWhereItSaysInLogitsAndTokens) {
  World all = ListedWorld(1025, 12, 5, {2, 50});
  const Tokens want = Whole(all);
  World some = all;
  some.filtered.clear();
  for (const int32_t row : {11, 2, 7}) {
    some.filtered.push_back(all.filtered[row]);
    some.filtered.back().slot = 11 - row;
  }
  const Tokens got = Sharded(some, {600, 425});
  for (int32_t row = 0; row < 12; ++row) {
    const bool is_chosen = row == 11 || row == 2 || row == 7;
    EXPECT_EQ(got.by_row[row], is_chosen ? want.by_row[row] : kPoison);
    EXPECT_EQ(got.by_slot[11 - row], got.by_row[row]);
  }
}

}  // namespace
}  // namespace quire
