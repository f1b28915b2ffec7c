// SPDX-License-Identifier: Apache-2.0
#include "kernels/nucleus_choice.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/sharded_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire {
namespace {

class NucleusChoiceTest : public ShardedChoiceFixture {
 protected:
  // One device is every shard, one after the other.
  static Tokens Sharded(const World& world, const Cut& cut) {
    const int32_t num_rows = static_cast<int32_t>(world.filtered.size());
    const int32_t num_shards = static_cast<int32_t>(cut.size());
    const int64_t said_bytes =
        num_shards * num_rows * NucleusBytes(NucleusStage::kEighths);
    // What nobody writes is such as would be noticed.
    const std::vector<char> noise(said_bytes, 0x7e);
    char *heard = ToDevice(noise), *said = ToDevice(noise);
    const std::vector<int32_t> poison(world.num_rows(), kPoison);
    NucleusParams p = {};
    p.num_shards = num_shards;
    p.rows = ToDevice(world.filtered);
    p.num_rows = num_rows;
    p.tokens = ToDevice(poison);
    p.by_slot = ToDevice(poison);
    std::vector<float*> columns;
    std::vector<NucleusState*> states;
    int32_t first_id = 0;
    for (const int32_t size : cut) {
      columns.push_back(Columns(world, first_id, size));
      states.push_back(
          ToDevice(std::vector<NucleusState>(kNumNucleusStages * num_rows)));
      first_id += size;
    }
    CHECK_EQ(first_id, world.num_vocab);
    for (int32_t stage = 0; stage < kNumNucleusStages; ++stage) {
      p.stage = static_cast<NucleusStage>(stage);
      p.first_id = 0;
      for (p.shard = 0; p.shard < num_shards; ++p.shard) {
        p.logits = columns[p.shard];
        p.num_vocab = cut[p.shard];
        p.states = states[p.shard];
        p.heard = stage == 0 ? nullptr : heard;
        p.said = said + p.shard * num_rows * NucleusBytes(p.stage);
        const absl::Status status = backend_->ChooseFromNuclei(p);
        CHECK(status.ok()) << status;
        p.first_id += p.num_vocab;
      }
      std::swap(heard, said);
    }
    return Fetch(p.tokens, p.by_slot, world.num_rows());
  }

  // However the vocabulary is cut, and as the reference chooses unless its sums
  // could be others by little.
  static void ExpectChosenAsByReference(const World& world) {
    const std::vector<Cut> cuts = CutsOf(world.num_vocab);
    const Tokens got = Sharded(world, cuts[0]);
    int num_sure = 0;
    for (const ShapedRow& row : world.filtered) {
      const reference::ChosenToken want = reference::Choose(
          world.logits.data() + int64_t{row.row} * world.num_vocab,
          world.num_vocab, row, /*allowed=*/nullptr);
      if (want.margin < 5e-6) continue;
      ++num_sure;
      EXPECT_EQ(got.by_row[row.row], want.token)
          << "row " << row.row << " of " << world.num_vocab << ", temperature "
          << row.temperature << ", top_p " << row.top_p << ", min_p "
          << row.min_p << ", margin " << want.margin;
    }
    EXPECT_GT(num_sure, world.num_rows() / 2);
    for (const Cut& cut : cuts) {
      EXPECT_EQ(Sharded(world, cut), got) << cut.size() << " shards";
    }
  }
};

// Every kind of logits with top_p, min_p and both.
World NucleusWorld(int32_t num_vocab, int32_t num_rows, uint64_t seed) {
  World world(num_vocab);
  std::mt19937_64 random(seed);
  for (int32_t i = 0; i < num_rows; ++i) {
    ShapedRow row = world.AddRow(RandomLogits(num_vocab, i % 6, &random));
    row.seed = random();
    row.position = static_cast<int32_t>(random() % 100000);
    row.temperature = (1 + random() % 4) * 0.45f;
    const int kind = 1 + random() % 3;
    if (kind & 1) row.top_p = 0.05f + (random() % 19) * 0.05f;
    if (kind & 2) row.min_p = 0.001f * (random() % 300 + 1);
    world.Choose(row);
  }
  return world;
}

class VocabularyTest : public NucleusChoiceTest,
                       public testing::WithParamInterface<int32_t> {};

TEST_P(VocabularyTest, ShardsChooseAsTheReferenceDoes) {
  const int32_t num_vocab = GetParam();
  const int32_t num_rows = num_vocab > 10000 ? 48 : 240;
  ExpectChosenAsByReference(NucleusWorld(num_vocab, num_rows, 7));
}

// Several blocks read each of few rows.
TEST_P(VocabularyTest, ShardsChooseAloneAsTheReferenceDoes) {
  for (uint64_t seed = 20; seed < 32; ++seed) {
    World world(GetParam());
    std::mt19937_64 random(seed);
    ShapedRow row = world.AddRow(
        RandomLogits(world.num_vocab, static_cast<int>(seed % 6), &random));
    row.seed = seed;
    row.temperature = 0.7f;
    row.top_p = 0.6f;
    world.Choose(row);
    const reference::ChosenToken want = reference::Choose(
        world.logits.data(), world.num_vocab, row, /*allowed=*/nullptr);
    for (const Cut& cut : CutsOf(world.num_vocab)) {
      const int32_t token = Sharded(world, cut).by_row[0];
      EXPECT_GE(token, 0);
      if (want.margin < 5e-6) continue;
      EXPECT_EQ(token, want.token) << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Odd, VocabularyTest,
                         testing::Values(211, 1024, 1025, 8193, 50257, 128256),
                         [](const auto& info) {
                           return "Vocabulary" + std::to_string(info.param);
                         });

TEST_F(NucleusChoiceTest, OfEqualLogitsTheLowerIdsOfAllShardsStay) {
  World world(5000);
  for (int i = 0; i < 96; ++i) {
    // Of 2,002 a seven-hundredth.
    std::vector<float> logits(5000, -200.0f);
    for (int32_t id = 996; id < 5000; id += 2) logits[id] = 2;
    ShapedRow row = world.AddRow(logits);
    row.seed = i;
    row.top_p = 6.5f / 2002;
    world.Choose(row);
  }
  // Four of the seven in the second shard, one in the third, two in the last.
  const Tokens got = Sharded(world, {996, 8, 2, 3994});
  std::vector<int> times(7);
  for (const int32_t token : got.by_row) {
    ASSERT_GE(token, 996);
    ASSERT_LE(token, 1008);
    ++times[(token - 996) / 2];
  }
  for (const int count : times) EXPECT_GT(count, 0);
  for (const Cut& cut : CutsOf(5000)) EXPECT_EQ(Sharded(world, cut), got);
}

TEST_F(NucleusChoiceTest, NothingButTheLargestStaysOfATopPOfNothing) {
  World world(9000);
  std::mt19937_64 random(3);
  std::vector<int32_t> want;
  for (int i = 0; i < 12; ++i) {
    const std::vector<float> logits = RandomLogits(9000, i % 6, &random);
    for (const float top_p : {0.0f, 1e-30f, 1e-7f}) {
      ShapedRow row = world.AddRow(logits);
      row.seed = i;
      row.top_p = top_p;
      world.Choose(row);
      want.push_back(static_cast<int32_t>(
          std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
  }
  for (const Cut& cut : CutsOf(9000)) {
    EXPECT_EQ(Sharded(world, cut).by_row, want);
  }
}

TEST_F(NucleusChoiceTest, EveryTokenMayBeChosenOfATopPOfNearlyAll) {
  World world(8);
  for (int i = 0; i < 400; ++i) {
    ShapedRow row = world.AddRow(std::vector<float>(8, 3.0f));
    row.seed = i;
    row.top_p = 0.99999994f;
    world.Choose(row);
  }
  const Tokens got = Sharded(world, {3, 0, 5});
  std::vector<int> times(8);
  for (const int32_t token : got.by_row) ++times.at(token);
  for (const int count : times) EXPECT_GT(count, 20);
}

World WorldOfSizes(const std::vector<float>& temperatures,
                   const std::vector<float>& sizes) {
  World world(3000);
  std::mt19937_64 random(9);
  for (const float temperature : temperatures) {
    for (const float size : sizes) {
      std::vector<float> logits = RandomLogits(3000, 0, &random);
      for (float& logit : logits) logit *= size;
      ShapedRow row = world.AddRow(logits);
      row.seed = random();
      row.temperature = temperature;
      row.top_p = 0.7f;
      world.Choose(row);
    }
  }
  return world;
}

TEST_F(NucleusChoiceTest, TemperaturesAndLogitsOfAnySizeAreServed) {
  ExpectChosenAsByReference(
      WorldOfSizes({1e-5f, 1e-3f, 0.1f, 1.0f, 8.0f}, {0.1f, 1, 1e3f, 1e20f}));
}

// Then lower ids go first, not larger logits.
TEST_F(NucleusChoiceTest, LogitsThatHardlyDifferAreEqual) {
  const World world = WorldOfSizes({1, 1e30f}, {1e-38f, 1e-30f, 1e-10f});
  for (const Cut& cut : CutsOf(world.num_vocab)) {
    for (const int32_t token : Sharded(world, cut).by_row) {
      EXPECT_GE(token, 0);
      EXPECT_LT(token, 2100);  // of 3,000
    }
  }
}

TEST_F(NucleusChoiceTest, ZerosOfEitherSignAreEqual) {
  World world(300);
  for (int i = 0; i < 64; ++i) {
    std::vector<float> logits(300, -1.0f);
    for (int32_t id = 0; id < 300; id += 3) logits[id] = id % 2 ? 0.0f : -0.0f;
    ShapedRow row = world.AddRow(logits);
    row.seed = i;
    row.top_p = 0.215f;
    if (i % 2 == 0) row.min_p = 0.9f;
    world.Choose(row);
  }
  ExpectChosenAsByReference(world);
}

TEST_F(NucleusChoiceTest, WhatCannotBeChosenIsNamed) {
  constexpr int32_t kVocab = 5000;
  World world(kVocab);
  std::vector<int32_t> want;
  for (const FixedRow& fixed : FixedRows(kVocab)) {
    for (int kind = 1; kind < 4; ++kind) {
      ShapedRow row = world.AddRow(fixed.logits);
      row.temperature = fixed.temperature;
      if (kind & 1) row.top_p = 0.5f;
      if (kind & 2) row.min_p = 0.5f;
      world.Choose(row);
      want.push_back(fixed.outcome);
    }
  }
  for (const Cut& cut : CutsOf(kVocab)) {
    EXPECT_EQ(Sharded(world, cut).by_row, want) << cut.size() << " shards";
  }
}

TEST_F(NucleusChoiceTest, ARunRepeatsAndOtherRowsDoNotChangeARow) {
  const World all = NucleusWorld(50257, 200, 3);
  const Cut cut = CutsOf(all.num_vocab).back();
  const Tokens together = Sharded(all, cut);
  EXPECT_EQ(Sharded(all, cut), together);
  for (const int32_t row : {0, 17, 101, 197, 198, 199}) {
    World alone(all.num_vocab);
    const auto begin = all.logits.begin() + int64_t{row} * all.num_vocab;
    alone.AddRow({begin, begin + all.num_vocab});
    ShapedRow shaped = all.filtered[row];
    shaped.row = shaped.slot = 0;
    alone.Choose(shaped);
    EXPECT_EQ(Sharded(alone, cut).by_row[0], together.by_row[row]);
  }
}

TEST_F(NucleusChoiceTest, MoreShardsThanThreadsOfAWarpChooseTheSame) {
  const World world = NucleusWorld(1025, 48, 11);
  EXPECT_EQ(Sharded(world, Cut(41, 25)), Sharded(world, {1025}));
}

TEST_F(NucleusChoiceTest, ARowIsWhereItSaysInLogitsAndTokens) {
  World all = NucleusWorld(1025, 12, 5);
  const Tokens want = Sharded(all, {1025});
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
