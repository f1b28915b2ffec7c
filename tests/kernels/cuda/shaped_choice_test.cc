// SPDX-License-Identifier: Apache-2.0
#include "kernels/shaped_choice.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/choice_fixture.h"
#include "tests/kernels/cuda/shaped_choice_world.h"
#include "tests/reference/shaped_choice.h"

namespace quire {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t kPoison = -77;

// Sums are of float shares, each within 1e-6; where that decides a token, the
// reference may choose another.
constexpr double kSumError = 2e-5;

// What came of it.
struct Outcome {
  std::vector<int32_t> tokens, by_slot;  // [rows]
  std::vector<SeenToken> seen;
  std::vector<TokenLogprobs> logprobs;
  std::vector<double> margins;  // [rows], of the reference
};

Outcome MakeOutcome(const World& world) {
  Outcome outcome;
  outcome.tokens.assign(world.num_rows(), kPoison);
  outcome.by_slot = outcome.tokens;
  outcome.seen = world.seen;
  outcome.logprobs.resize(world.logprob_rows.size());
  std::memset(outcome.logprobs.data(), 0x7f,
              outcome.logprobs.size() * sizeof(TokenLogprobs));
  return outcome;
}

ShapedChoiceParams ParamsOf(const World& world) {
  ShapedChoiceParams p = {};
  p.num_vocab = world.num_vocab;
  p.num_edits = static_cast<int32_t>(world.edits.size());
  p.seen_stride = world.stride;
  p.num_unfiltered = static_cast<int32_t>(world.unfiltered.size());
  p.num_filtered = static_cast<int32_t>(world.filtered.size());
  p.num_logprobs = static_cast<int32_t>(world.logprob_rows.size());
  return p;
}

std::vector<ShapedRow> RowsOf(const World& world) {
  std::vector<ShapedRow> rows = world.unfiltered;
  rows.insert(rows.end(), world.filtered.begin(), world.filtered.end());
  return rows;
}

Outcome Expected(const World& world) {
  Outcome outcome = MakeOutcome(world);
  std::vector<float> logits = world.logits, saved(world.num_saved);
  const std::vector<ShapedRow> rows = RowsOf(world);
  ShapedChoiceParams p = ParamsOf(world);
  p.logits = logits.data();
  p.edits = world.edits.data();
  p.biases = world.biases.data();
  p.masked = world.masked.data();
  p.seen = outcome.seen.data();
  p.saved = saved.data();
  p.rows = rows.data();
  p.allowed = world.allowed.data();
  p.logprob_rows = world.logprob_rows.data();
  p.logprobs = outcome.logprobs.data();
  p.tokens = outcome.tokens.data();
  p.by_slot = outcome.by_slot.data();
  std::vector<double> margins;
  reference::ShapedChoice(p, &margins);
  outcome.margins.resize(world.num_rows());
  for (size_t i = 0; i < rows.size(); ++i) {
    outcome.margins[rows[i].row] = margins[i];
  }
  return outcome;
}

class ShapedChoiceTest : public ChoiceFixture {
 protected:
  // `logits`, if given, receives what is left in them.
  static Outcome Run(const World& world, std::vector<float>* logits = nullptr) {
    Outcome outcome = MakeOutcome(world);
    ShapedChoiceParams p = ParamsOf(world);
    p.logits = ToDevice(world.logits);
    p.edits = ToDevice(world.edits);
    p.biases = ToDevice(world.biases);
    p.masked = ToDevice(world.masked);
    p.seen = ToDevice(outcome.seen);
    p.saved = ToDevice(std::vector<float>(world.num_saved));
    p.rows = ToDevice(RowsOf(world));
    p.allowed = ToDevice(world.allowed);
    p.logprob_rows = ToDevice(world.logprob_rows);
    p.logprobs = ToDevice(outcome.logprobs);
    p.tokens = ToDevice(outcome.tokens);
    p.by_slot = ToDevice(outcome.by_slot);
    const absl::Status status = backend_->ChooseShaped(p);
    CHECK(status.ok()) << status;
    ToHost(p.tokens, &outcome.tokens);
    ToHost(p.by_slot, &outcome.by_slot);
    ToHost(p.seen, &outcome.seen);
    ToHost(p.logprobs, &outcome.logprobs);
    if (logits != nullptr) {
      logits->resize(world.logits.size());
      ToHost(p.logits, logits);
    }
    Synchronize();
    return outcome;
  }
};

// Tokens equal but where sums decide; everything else of equal tokens too.
void ExpectEqual(const World& world, const Outcome& got, const Outcome& want) {
  std::vector<bool> is_other(world.num_rows());
  int num_other = 0;
  for (int32_t row = 0; row < world.num_rows(); ++row) {
    EXPECT_EQ(got.tokens[row], got.by_slot[row]) << "row " << row;
    if (got.tokens[row] == want.tokens[row]) continue;
    EXPECT_LT(want.margins[row], kSumError)
        << "row " << row << " of " << world.num_vocab << ": " << got.tokens[row]
        << " in place of " << want.tokens[row];
    is_other[row] = true;
    ++num_other;
  }
  EXPECT_LE(num_other, world.num_rows() / 20) << "too many close calls";
  for (int32_t row = 0; row < world.num_rows(); ++row) {
    if (is_other[row]) continue;
    const SeenToken* a = got.seen.data() + row * world.stride;
    const SeenToken* b = want.seen.data() + row * world.stride;
    ASSERT_EQ(a[0].token_id, b[0].token_id) << "row " << row;
    for (int32_t i = 1; i <= b[0].token_id; ++i) {
      EXPECT_EQ(a[i].token_id, b[i].token_id) << "row " << row;
      EXPECT_EQ(a[i].output_count, b[i].output_count) << "row " << row;
    }
  }
  for (size_t i = 0; i < world.logprob_rows.size(); ++i) {
    const int32_t row = world.logprob_rows[i].row;
    if (is_other[row] || want.tokens[row] < 0) continue;
    const TokenLogprobs &a = got.logprobs[i], &b = want.logprobs[i];
    // A float of that size, and a sum whose shares are within 1e-6.
    const float error = 1e-5f + 2e-7f * std::abs(b.logprob);
    EXPECT_NEAR(a.logprob, b.logprob, error) << "row " << row;
    EXPECT_EQ(a.rank, b.rank) << "row " << row;
    for (int32_t j = 0; j < kMaxTopLogprobs; ++j) {
      ASSERT_EQ(a.top_ids[j], b.top_ids[j]) << "row " << row << ", " << j;
      if (b.top_ids[j] < 0) continue;
      EXPECT_NEAR(a.top_logprobs[j], b.top_logprobs[j],
                  1e-5f + 2e-7f * std::abs(b.top_logprobs[j]));
    }
  }
}

class VocabularyTest : public ShapedChoiceTest,
                       public testing::WithParamInterface<int32_t> {};

TEST_P(VocabularyTest, AllParametersAtOnceChooseAsTheReferenceDoes) {
  const int32_t num_vocab = GetParam();
  const World world = MixedWorld(num_vocab, num_vocab > 10000 ? 48 : 150, 7);
  ExpectEqual(world, Run(world), Expected(world));
}

INSTANTIATE_TEST_SUITE_P(Odd, VocabularyTest,
                         testing::Values(1, 2, 3, 31, 33, 1024, 1025, 8191,
                                         8192, 8193, 32000, 50257, 128256),
                         [](const auto& info) {
                           return "Vocabulary" + std::to_string(info.param);
                         });

TEST_F(ShapedChoiceTest, NeitherOtherRowsNorTheirNumberChangeARow) {
  const World all = MixedWorld(50257, 300, 3);
  const Outcome together = Run(all);
  for (int32_t row : {0, 17, 101, 299}) {
    World alone(all.num_vocab);
    alone.AddRow({all.logits.begin() + int64_t{row} * all.num_vocab,
                  all.logits.begin() + (row + 1ll) * all.num_vocab});
    for (ShapedRow shaped : RowsOf(all)) {
      if (shaped.row != row) continue;
      shaped.row = shaped.slot = 0;
      alone.Choose(shaped);
    }
    alone.allowed = all.allowed;
    alone.biases = all.biases;
    alone.masked = all.masked;
    std::copy_n(all.seen.begin() + row * all.stride, all.stride,
                alone.seen.begin());
    for (EditRow edit : all.edits) {
      if (edit.row != row) continue;
      edit.row = edit.slot = 0;
      edit.first_saved = edit.first_saved < 0 ? -1 : 0;
      alone.edits.push_back(edit);
    }
    alone.num_saved = all.num_saved;
    size_t in_all = all.logprob_rows.size();
    for (size_t i = 0; i < all.logprob_rows.size(); ++i) {
      if (all.logprob_rows[i].row != row) continue;
      in_all = i;
      alone.logprob_rows.push_back({0, all.logprob_rows[i].num_top});
    }
    const Outcome lonely = Run(alone);
    EXPECT_EQ(lonely.tokens[0], together.tokens[row]);
    if (in_all == all.logprob_rows.size()) continue;
    EXPECT_EQ(std::memcmp(&lonely.logprobs[0], &together.logprobs[in_all],
                          sizeof(TokenLogprobs)),
              0);
  }
}

TEST_F(ShapedChoiceTest, FlatRowsAreDecidedBeyondWhatIsListed) {
  World world(128256);
  std::mt19937_64 random(5);
  for (int i = 0; i < 24; ++i) {
    ShapedRow row =
        world.AddRow(RandomLogits(128256, i % 2 == 0 ? 1 : 5, &random));
    row.seed = random();
    if (i % 3 == 0) row.top_p = 0.9f;
    if (i % 3 == 1) row.top_k = 5000;
    if (i % 3 == 2) row.min_p = 0.05f;
    if (i % 4 == 3) row.top_p = 0.3f;
    world.Choose(row);
  }
  ExpectEqual(world, Run(world), Expected(world));
}

// Of thousands of draws none depends on which rows are chosen beside it, nor on
// how many blocks that leaves for each.
TEST_F(ShapedChoiceTest, CompanyDoesNotChangeWhatFlatRowsDraw) {
  constexpr int32_t kVocab = 128256, kRows = 48;
  std::mt19937_64 random(77);
  World world(kVocab);
  for (int32_t row = 0; row < kRows; ++row) {
    ShapedRow shaped =
        world.AddRow(RandomLogits(kVocab, row % 4 == 3 ? 0 : 1, &random));
    shaped.temperature = row % 2 == 0 ? 0.8f : 1.0f;
    if (row % 3 != 1) shaped.top_p = row % 6 < 3 ? 0.9f : 0.5f;
    if (row % 3 != 2) shaped.min_p = 0.002f;
    world.Choose(shaped);
  }
  const auto logits = *backend_->Allocate(world.logits.size() * sizeof(float));
  ASSERT_TRUE(backend_
                  ->CopyToDevice(world.logits.data(), logits->data(),
                                 world.logits.size() * sizeof(float))
                  .ok());
  const auto choose = [&](const std::vector<ShapedRow>& rows, int32_t at_once) {
    ShapedChoiceParams p = {};
    p.logits = logits->as<float>();
    p.num_vocab = kVocab;
    std::vector<int32_t> tokens(kRows, kPoison);
    p.tokens = ToDevice(tokens);
    p.by_slot = ToDevice(tokens);
    const ShapedRow* const all = ToDevice(rows);
    for (int32_t first = 0; first < kRows; first += at_once) {
      p.rows = all + first;
      p.num_filtered = std::min(at_once, kRows - first);
      CHECK(backend_->ChooseShaped(p).ok());
    }
    ToHost(p.tokens, &tokens);
    Synchronize();
    return tokens;
  };
  for (int draw = 0; draw < 100; ++draw) {
    std::vector<ShapedRow> rows = world.filtered;
    std::shuffle(rows.begin(), rows.end(), random);
    for (ShapedRow& row : rows) {
      row.seed = random();
      row.position = draw;
    }
    const std::vector<int32_t> want = choose(rows, kRows);
    for (const int32_t at_once : {1, 7, 30}) {
      ASSERT_EQ(choose(rows, at_once), want) << at_once << ", draw " << draw;
    }
  }
}

TEST_F(ShapedChoiceTest, OfEqualLogitsTheLowerIdsStay) {
  World world(50257);
  for (int i = 0; i < 64; ++i) {
    ShapedRow row = world.AddRow(std::vector<float>(50257, -3.5f));
    row.seed = i;
    row.top_k = 7;
    world.Choose(row);
  }
  const Outcome got = Run(world);
  std::vector<int> times(7);
  for (int32_t token : got.tokens) {
    ASSERT_GE(token, 0);
    ASSERT_LT(token, 7);
    ++times[token];
  }
  for (int count : times) EXPECT_GT(count, 0);
  ExpectEqual(world, got, Expected(world));
}

TEST_F(ShapedChoiceTest, WhatCannotBeChosenIsNamed) {
  World world(5000);
  const std::vector<float> zeros(5000, 0.0f);
  const auto add = [&](std::vector<float> logits, float temperature) {
    for (bool is_filtered : {false, true}) {
      ShapedRow row = world.AddRow(logits);
      row.temperature = temperature;
      if (is_filtered) row.top_k = 10;
      world.Choose(row);
    }
  };
  std::vector<float> row = zeros;
  row[4999] = kNan;
  add(row, 1);
  row[4999] = kInf;
  add(row, 1);
  add(std::vector<float>(5000, -kInf), 1);
  row = zeros;
  row[3] = 1e36f;
  add(row, 1e-4f);
  // Forbidden, but wrong all the same.
  row = zeros;
  row[4000] = kNan;
  add(row, 1);
  for (auto* rows : {&world.unfiltered, &world.filtered}) {
    rows->back().first_allowed = 0;
    rows->back().num_allowed_words = 1;
  }
  world.allowed = {~0u};
  const Outcome got = Run(world);
  const int32_t want[] = {kLogitsNotFinite, kLogitsNotFinite, kNoToken,
                          kLogitsOverflow, kLogitsNotFinite};
  for (int i = 0; i < 10; ++i) EXPECT_EQ(got.tokens[i], want[i / 2]) << i;
}

TEST_F(ShapedChoiceTest, EditsAreTakenBackWhereLogitsAreKept) {
  World world(32000);
  std::mt19937_64 random(9);
  for (int i = 0; i < 40; ++i) {
    const ShapedRow row = world.AddRow(RandomLogits(32000, i % 4, &random));
    AddEdit(row, &random, /*keeps_raw=*/true, &world);
    world.masked.push_back(world.masked.back());  // twice
    ++world.edits.back().num_masked;
    ++world.num_saved;
    world.Choose(row);
  }
  std::vector<float> left;
  Run(world, &left);
  EXPECT_EQ(std::memcmp(left.data(), world.logits.data(),
                        left.size() * sizeof(float)),
            0);
}

TEST_F(ShapedChoiceTest, TokensAreCountedFromStepToStep) {
  World world(100);
  std::mt19937_64 random(2);
  for (int i = 0; i < 16; ++i) {
    ShapedRow row = world.AddRow(RandomLogits(100, 1, &random));
    row.seed = i;
    if (i % 2 == 0) row.top_k = 20;
    AddEdit(row, &random, false, &world);
    world.edits.back().is_penalised = 1;
    world.edits.back().frequency_penalty = 0.25f;
    world.Choose(row);
  }
  for (int step = 0; step < 30; ++step) {
    const Outcome got = Run(world);
    ExpectEqual(world, got, Expected(world));
    world.seen = got.seen;
    for (auto* rows : {&world.unfiltered, &world.filtered}) {
      for (ShapedRow& row : *rows) ++row.position;
    }
  }
}

TEST_F(ShapedChoiceTest, LogprobsOfTokensThatWereChosenBefore) {
  World world(50257);
  std::mt19937_64 random(4);
  for (int i = 0; i < 20; ++i) {
    ShapedRow row = world.AddRow(RandomLogits(50257, i % 6, &random));
    row.temperature = 0;
    world.Choose(row);
  }
  const Outcome chosen = Run(world);
  world.unfiltered.clear();
  for (int i = 0; i < 20; ++i) world.logprob_rows.push_back({i, i});
  // Without a choice in it, tokens are read.
  ShapedChoiceParams p = ParamsOf(world);
  Outcome got = MakeOutcome(world);
  p.logits = ToDevice(world.logits);
  p.logprob_rows = ToDevice(world.logprob_rows);
  p.logprobs = ToDevice(got.logprobs);
  p.tokens = ToDevice(chosen.tokens);
  ASSERT_TRUE(backend_->ChooseShaped(p).ok());
  ToHost(p.logprobs, &got.logprobs);
  Synchronize();
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(got.logprobs[i].rank, 1) << i;  // greedy
    const TokenLogprobs want = reference::Logprobs(
        world.logits.data() + i * int64_t{50257}, 50257, chosen.tokens[i], i);
    EXPECT_NEAR(got.logprobs[i].logprob, want.logprob, 1e-5);
    for (int j = 0; j < i; ++j) {
      EXPECT_EQ(got.logprobs[i].top_ids[j], want.top_ids[j]) << i << " " << j;
    }
  }
}

}  // namespace
}  // namespace quire
