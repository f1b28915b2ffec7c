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

// Allows ids, one of so many and those of the first words alone.
void Allow(int32_t each, std::mt19937_64* random, ShapedRow* row,
           World* world) {
  const int32_t words = (world->num_vocab + 31) / 32;
  row->first_allowed = static_cast<int32_t>(world->allowed.size());
  row->num_allowed_words = 1 + static_cast<int32_t>((*random)() % words);
  for (int32_t word = 0; word < row->num_allowed_words; ++word) {
    uint32_t bits = 0;
    for (int bit = 0; bit < 32; ++bit) {
      bits |= static_cast<uint32_t>((*random)() % each == 0) << bit;
    }
    world->allowed.push_back(bits);
  }
}

// Masks all ids, or all but the last.
void MaskAll(EditRow* edit, World* world) {
  edit->first_masked = static_cast<int32_t>(world->masked.size());
  edit->num_masked = world->num_vocab - edit->row / 6 % 2;
  for (int32_t id = 0; id < edit->num_masked; ++id) {
    world->masked.push_back(id);
  }
}

// Rows of every kind of logits, most of them edited. None has filters.
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
    if (i % 4 == 1) Allow(i % 8 == 1 ? 2 : 3, &random, &row, &world);
    world.Choose(row);
    if (i % 5 == 4 && row.first_allowed < 0) continue;
    AddEdit(row, &random, /*keeps_raw=*/false, &world);
    EditRow& edit = world.edits.back();
    if (i % 3 == 0) edit.num_masked = 0;
    // All ids beside each masked one are too many to look at else.
    if (i % 6 == 5 && num_vocab < 2000) MaskAll(&edit, &world);
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
    p.masked = ToDevice(world.masked);
    p.allowed = ToDevice(world.allowed);
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

  // All shards' logits after their edits, with what is beside them.
  static std::vector<std::vector<float>> EditedShards(const World& world,
                                                      const Cut& cut) {
    EditLogitsParams p = EditsOf(world);
    std::vector<std::vector<float>> shards;
    std::vector<float*> logits;
    for (const int32_t size : cut) {
      shards.push_back(
          WithBeside(ColumnsOf(world.logits, world, p.first_id, size)));
      logits.push_back(ToDevice(shards.back()) + kNumBeside);
      p.first_id += size;
    }
    p.first_id = 0;
    Edit(p, logits, cut);
    for (size_t i = 0; i < cut.size(); ++i) {
      ToHost(logits[i] - kNumBeside, &shards[i]);
    }
    Synchronize();
    return shards;
  }

  static std::vector<float> WithBeside(const std::vector<float>& columns) {
    std::vector<float> all(kNumBeside, kBeside);
    all.insert(all.end(), columns.begin(), columns.end());
    all.resize(all.size() + kNumBeside, kBeside);
    return all;
  }

  // Edits all shards and masks them. `p` is of the first.
  static void Edit(EditLogitsParams p, const std::vector<float*>& logits,
                   const Cut& cut) {
    int32_t* const heard =
        ToDevice(std::vector<int32_t>(cut.size() * p.num_edits, kPoison));
    std::vector<MaskLogitsParams> masks;
    for (size_t shard = 0; shard < cut.size(); ++shard) {
      p.logits = logits[shard];
      p.num_vocab = cut[shard];
      p.has_others = heard + shard * p.num_edits;
      CHECK(backend_->EditLogits(p).ok());
      MaskLogitsParams& mask = masks.emplace_back();
      static_cast<EditLogitsParams&>(mask) = p;
      mask.heard = heard;
      mask.num_shards = static_cast<int32_t>(cut.size());
      p.first_id += cut[shard];
    }
    for (const MaskLogitsParams& mask : masks) {
      CHECK(backend_->MaskLogits(mask).ok());
    }
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
    std::vector<float*> logits;
    int32_t first_id = 0;
    for (const int32_t size : cut) {
      logits.push_back(Columns(world, first_id, size));
      first_id += size;
    }
    Edit(p, logits, cut);
    for (size_t shard = 0; shard < cut.size(); ++shard) {
      p.logits = logits[shard];
      p.num_vocab = cut[shard];
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

// And those that are not allowed are impossible.
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
  p.masked = world.masked.data();
  p.allowed = world.allowed.data();
  p.seen = seen.data();
  p.seen_stride = world.stride;
  reference::EditLogits(p);
  for (const EditRow& edit : world.edits) {
    float* const row = want.data() + int64_t{edit.row} * num_vocab;
    for (int32_t id = 0; id < num_vocab; ++id) {
      if (reference::IsAllowed(edit, p.allowed, id)) continue;
      if (row[id] < kInf) row[id] = -kInf;
    }
  }
  ASSERT_FALSE(AreSame(want, world.logits));
  for (const Cut& cut : CutsOf(num_vocab)) {
    const auto shards = EditedShards(world, cut);
    int32_t first = 0;
    for (size_t i = 0; i < cut.size(); ++i) {
      EXPECT_TRUE(
          AreSame(shards[i], WithBeside(ColumnsOf(want, world, first, cut[i]))))
          << "columns " << first << " to " << first + cut[i] << " of "
          << num_vocab;
      first += cut[i];
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

// Where they are kept, that is: of lists, or of all columns.
TEST_P(VocabularyTest, EditsOfShardsAreTakenBack) {
  World world = EditedWorld(GetParam(), 40, 5);
  for (EditRow& edit : world.edits) {
    edit.first_saved = world.num_saved;
    world.num_saved += std::max(edit.num_biases + edit.num_masked + 20,
                                edit.first_allowed < 0 ? 0 : world.num_vocab);
  }
  for (const Cut& cut : CutsOf(world.num_vocab)) {
    EditLogitsParams p = EditsOf(world);
    p.saved = ToDevice(std::vector<float>(world.num_saved));
    p.tokens = ToDevice(std::vector<int32_t>(world.num_rows(), kNoToken));
    for (const int32_t size : cut) {
      const std::vector<float> shard =
          ColumnsOf(world.logits, world, p.first_id, size);
      float* const logits = ToDevice(shard);
      Edit(p, {logits}, {size});
      p.logits = logits;
      p.num_vocab = size;
      p.has_others = ToDevice(std::vector<int32_t>(p.num_edits));
      CHECK(backend_->FinishEdits(p).ok());
      std::vector<float> left(shard.size());
      ToHost(logits, &left);
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
