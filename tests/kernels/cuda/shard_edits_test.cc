// SPDX-License-Identifier: Apache-2.0
//
// Rows that are edited where their shards lie: one device is every shard, one
// after the other.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/sample.h"
#include "kernels/shaped_choice.h"
#include "tests/kernels/cuda/sharded_choice.h"
#include "tests/reference/shaped_choice.h"

namespace quire {
namespace {

// What is beside a shard's logits.
constexpr float kBeside = 12345;
constexpr int64_t kNumBeside = 64;

// Rows of every kind of logits, most of them edited, without masks. None has
// filters.
World EditedWorld(int32_t num_vocab, int32_t num_rows, uint64_t seed) {
  World world(num_vocab);
  std::mt19937_64 random(seed);
  for (int32_t i = 0; i < num_rows; ++i) {
    std::vector<float> logits = RandomLogits(num_vocab, i % 6, &random);
    if (i % 16 == 7) logits[random() % num_vocab] = kNan;
    if (i % 16 == 9) logits[random() % num_vocab] = kInf;
    ShapedRow row = world.AddRow(logits);
    row.seed = random();
    row.position = static_cast<int32_t>(random() % 100000);
    row.temperature = (random() % 5) * 0.45f;
    world.Choose(row);
    if (i % 5 == 4) continue;
    AddEdit(row, &random, /*keeps_raw=*/false, &world);
    world.edits.back().num_masked = 0;
  }
  // Ids that no shard has.
  for (EditRow& edit : world.edits) {
    edit.first_bias = static_cast<int32_t>(world.biases.size());
    edit.num_biases = 4;
    world.biases.insert(
        world.biases.end(),
        {{-1, 3}, {num_vocab, 3}, {INT32_MIN, 3}, {INT32_MAX, 3}});
    const int32_t id = static_cast<int32_t>(random() % num_vocab);
    for (int32_t i = id; i < std::min(id + 5, num_vocab); ++i) {
      world.biases.push_back({i, 1.5f});
      ++edit.num_biases;
    }
  }
  return world;
}

class ShardEditsTest : public ShardedChoiceFixture {
 protected:
  // What edits of logits read, but for those themselves.
  static EditLogitsParams EditsOf(const World& world) {
    EditLogitsParams p = {};
    p.num_edits = static_cast<int32_t>(world.edits.size());
    p.edits = ToDevice(world.edits);
    p.biases = ToDevice(world.biases);
    p.seen = ToDevice(world.seen);
    p.seen_stride = world.stride;
    return p;
  }

  static std::vector<float> ColumnsOf(const std::vector<float>& logits,
                                      const World& world, int32_t first,
                                      int32_t size) {
    std::vector<float> columns;
    for (int32_t row = 0; row < world.num_rows(); ++row) {
      const auto begin =
          logits.begin() + int64_t{row} * world.num_vocab + first;
      columns.insert(columns.end(), begin, begin + size);
    }
    return columns;
  }

  // A shard's logits after its edits, with what is beside them.
  static std::vector<float> EditedShard(const World& world, int32_t first,
                                        int32_t size) {
    const std::vector<float> beside(kNumBeside, kBeside);
    std::vector<float> shard = beside;
    const auto columns = ColumnsOf(world.logits, world, first, size);
    shard.insert(shard.end(), columns.begin(), columns.end());
    shard.insert(shard.end(), beside.begin(), beside.end());
    EditLogitsParams p = EditsOf(world);
    float* const logits = ToDevice(shard);
    p.logits = logits + kNumBeside;
    p.first_id = first;
    p.num_vocab = size;
    const absl::Status status = backend_->EditLogits(p);
    CHECK(status.ok()) << status;
    ToHost(logits, &shard);
    Synchronize();
    return shard;
  }

  // The tokens that shards choose among themselves; `seen` goes on with them.
  static Tokens Sharded(const World& world, const Cut& cut,
                        std::vector<SeenToken>* seen) {
    const int32_t num_rows = world.num_rows();
    std::vector<ChoiceRow> rows(num_rows);
    for (const ShapedRow& row : world.unfiltered) {
      // Each third is padding.
      rows[row.row] = {row.seed, row.position, row.temperature,
                       row.row % 3 == 2 ? -1 : row.slot, 0};
    }
    const std::vector<int32_t> poison(num_rows, kPoison);
    ShardChoice* const choices =
        ToDevice(std::vector<ShardChoice>(cut.size() * num_rows));
    EditLogitsParams p = EditsOf(world);
    p.seen = ToDevice(*seen);
    p.tokens = ToDevice(poison);
    MergeChoicesParams merge = {};
    merge.choices = choices;
    merge.rows = ToDevice(rows);
    merge.tokens = p.tokens;
    merge.by_slot = ToDevice(poison);
    merge.num_shards = static_cast<int32_t>(cut.size());
    merge.num_rows = num_rows;
    for (size_t shard = 0; shard < cut.size(); ++shard) {
      p.logits = Columns(world, p.first_id, cut[shard]);
      p.num_vocab = cut[shard];
      CHECK(backend_->EditLogits(p).ok());
      ChooseTokensParams choose = {};
      choose.logits = p.logits;
      choose.rows = merge.rows;
      choose.num_vocab = p.num_vocab;
      choose.num_rows = num_rows;
      choose.first_id = p.first_id;
      choose.choices = choices + shard * num_rows;
      CHECK(backend_->ChooseTokens(choose).ok());
      p.first_id += cut[shard];
    }
    CHECK_EQ(p.first_id, world.num_vocab);
    CHECK(backend_->MergeChoices(merge).ok());
    CHECK(backend_->FinishEdits(p).ok());
    ToHost(p.seen, seen);
    return Fetch(p.tokens, merge.by_slot, num_rows);
  }

  // The same of whole rows. Of those that shards do not choose from, kPoison.
  static Tokens Whole(const World& world, std::vector<SeenToken>* seen) {
    const std::vector<int32_t> poison(world.num_rows(), kPoison);
    std::vector<ShapedRow> rows;
    for (const ShapedRow& row : world.unfiltered) {
      if (row.row % 3 != 2) rows.push_back(row);
    }
    ShapedChoiceParams p = {};
    static_cast<EditLogitsParams&>(p) = EditsOf(world);
    p.logits = ToDevice(world.logits);
    p.num_vocab = world.num_vocab;
    p.seen = ToDevice(*seen);
    p.rows = ToDevice(rows);
    p.num_unfiltered = static_cast<int32_t>(rows.size());
    p.tokens = ToDevice(poison);
    p.by_slot = ToDevice(poison);
    const absl::Status status = backend_->ChooseShaped(p);
    CHECK(status.ok()) << status;
    ToHost(p.seen, seen);
    return Fetch(p.tokens, p.by_slot, world.num_rows());
  }
};

bool AreSame(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() ||
          std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// Of the sequences of all slots.
std::string TextOf(const World& world, const std::vector<SeenToken>& seen) {
  std::string text;
  for (int32_t slot = 0; slot < world.num_rows(); ++slot) {
    const SeenToken* const row = seen.data() + slot * world.stride;
    const int32_t count = reinterpret_cast<const SeenHeader*>(row)->count;
    for (int32_t i = 1; i <= count; ++i) {
      absl::StrAppend(&text, row[i].token_id, "x", row[i].output_count, " ");
    }
    absl::StrAppend(&text, "\n");
  }
  return text;
}

class VocabularyTest : public ShardEditsTest,
                       public testing::WithParamInterface<int32_t> {};

TEST_P(VocabularyTest, ShardsAreEditedAsTheirColumnsOfTheWholeRow) {
  const int32_t num_vocab = GetParam();
  const World world = EditedWorld(num_vocab, 40, 3);
  std::vector<float> want = world.logits;
  std::vector<SeenToken> seen = world.seen;
  EditLogitsParams p = {};
  p.logits = want.data();
  p.num_vocab = num_vocab;
  p.num_edits = static_cast<int32_t>(world.edits.size());
  p.edits = world.edits.data();
  p.biases = world.biases.data();
  p.seen = seen.data();
  p.seen_stride = world.stride;
  reference::EditLogits(p);
  ASSERT_FALSE(AreSame(want, world.logits));
  const std::vector<float> beside(kNumBeside, kBeside);
  for (const Cut& cut : CutsOf(num_vocab)) {
    int32_t first = 0;
    for (const int32_t size : cut) {
      std::vector<float> expected = beside;
      const auto columns = ColumnsOf(want, world, first, size);
      expected.insert(expected.end(), columns.begin(), columns.end());
      expected.insert(expected.end(), beside.begin(), beside.end());
      EXPECT_TRUE(AreSame(EditedShard(world, first, size), expected))
          << "columns " << first << " to " << first + size << " of "
          << num_vocab;
      first += size;
    }
  }
}

TEST_P(VocabularyTest, ShardsChooseAndCountStepAfterStepAsWholeRowsDo) {
  World world = EditedWorld(GetParam(), 48, 4);
  for (EditRow& edit : world.edits) {
    edit.is_penalised = 1;
    edit.frequency_penalty += 0.5f;
  }
  const std::vector<Cut> cuts = CutsOf(world.num_vocab);
  std::vector<SeenToken> seen = world.seen;
  std::vector<std::vector<SeenToken>> by_cut(cuts.size(), world.seen);
  for (int step = 0; step < 8; ++step) {
    const Tokens want = Whole(world, &seen);
    for (size_t i = 0; i < cuts.size(); ++i) {
      EXPECT_EQ(Sharded(world, cuts[i], &by_cut[i]), want)
          << "step " << step << ", " << cuts[i].size() << " shards of "
          << world.num_vocab;
      EXPECT_EQ(TextOf(world, by_cut[i]), TextOf(world, seen));
    }
    for (ShapedRow& row : world.unfiltered) ++row.position;
  }
  EXPECT_NE(TextOf(world, seen), TextOf(world, world.seen));
}

// Where they are kept, that is; an edit keeps as many as its lists are long.
TEST_P(VocabularyTest, EditsOfShardsAreTakenBack) {
  World world = EditedWorld(GetParam(), 40, 5);
  for (EditRow& edit : world.edits) {
    edit.first_saved = world.num_saved;
    world.num_saved += edit.num_biases + 20;
  }
  for (const Cut& cut : CutsOf(world.num_vocab)) {
    EditLogitsParams p = EditsOf(world);
    p.saved = ToDevice(std::vector<float>(world.num_saved));
    p.tokens = ToDevice(std::vector<int32_t>(world.num_rows(), kNoToken));
    for (const int32_t size : cut) {
      const std::vector<float> shard =
          ColumnsOf(world.logits, world, p.first_id, size);
      p.logits = ToDevice(shard);
      p.num_vocab = size;
      CHECK(backend_->EditLogits(p).ok());
      CHECK(backend_->FinishEdits(p).ok());
      std::vector<float> left(shard.size());
      ToHost(p.logits, &left);
      CHECK(backend_->Synchronize().ok());
      EXPECT_TRUE(AreSame(left, shard))
          << "columns " << p.first_id << " to " << p.first_id + size << " of "
          << world.num_vocab;
      p.first_id += size;
    }
    Synchronize();
  }
}

INSTANTIATE_TEST_SUITE_P(Odd, VocabularyTest,
                         testing::Values(211, 1025, 8193, 50257, 128256),
                         [](const auto& info) {
                           return "Vocabulary" + std::to_string(info.param);
                         });

}  // namespace
}  // namespace quire
