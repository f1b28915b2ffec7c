// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/sample.h"
#include "tests/kernels/cpu/sampled_rows.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(ChooseTokensTest, AreTheBestOfTheShardsWord) {
  for (int32_t n : {1, 5, 1000, 4097, 50272}) {
    constexpr int32_t kRows = 70;
    const std::vector<float> logits = RandomLogits(int64_t{n} * kRows, n);
    std::vector<SampleRow> rows;
    std::vector<ChoiceRow> choices;
    for (int32_t i = 0; i < kRows; ++i) {
      // Also so cold that most tokens are out of all noise's reach.
      rows.push_back(Row(i % 3 == 0   ? 0.0f
                         : i % 7 == 1 ? 0.02f
                                      : 0.5f * (i % 4 + 1),
                         /*seed=*/uint64_t{1} << (i % 60), /*position=*/i));
      choices.push_back({rows[i].seed, i, rows[i].temperature, kRows - i, 0});
    }
    choices[3].slot = -1;  // padding
    const Output shard = Sample(logits, rows, /*num_candidates=*/0);
    std::vector<int32_t> tokens(kRows, -9), by_slot(kRows + 1, -9);
    const auto backend = MakeTestBackend(DType::kF32, 2);
    const absl::Status status =
        backend->ChooseTokens({logits.data(), choices.data(), tokens.data(),
                               by_slot.data(), n, kRows});
    ASSERT_TRUE(status.ok()) << status;
    for (int32_t i = 0; i < kRows; ++i) {
      if (i == 3) continue;
      EXPECT_EQ(tokens[i], shard.summaries[i].best_token_id) << n << " " << i;
      EXPECT_EQ(by_slot[kRows - i], tokens[i]);
    }
    EXPECT_EQ(by_slot[kRows - 3], -9);
    EXPECT_EQ(by_slot[0], -9);
  }
}

// Shards of uneven sizes, as the last rank's is; logits from a few values, so
// that the best of two shards are often equal.
TEST(ChooseTokensTest, MergedShardsChooseWhatTheWholeVocabularyDoes) {
  constexpr int32_t kRows = 40;
  constexpr int32_t kVocab = 1003;
  std::vector<float> logits = RandomLogits(int64_t{kVocab} * kRows, 3);
  std::vector<ChoiceRow> rows;
  for (int32_t i = 0; i < kRows; ++i) {
    float* row = &logits[int64_t{i} * kVocab];
    if (i % 2 == 0) {
      for (int32_t j = 0; j < kVocab; ++j) row[j] = std::round(row[j]);
    }
    if (i == 4) std::fill_n(row, kVocab, -kInf);
    if (i == 5) std::fill_n(row, kVocab / 2, -kInf);
    if (i == 6) row[kVocab - 1] = std::nanf("");
    if (i == 7) row[3] = 3e38f;
    rows.push_back(
        {uint64_t{77} << i, i, i % 4 == 0 ? 0.0f : 0.5f, i == 9 ? -1 : i, 0});
  }
  const auto backend = MakeTestBackend(DType::kF32, 2);
  std::vector<int32_t> whole(kRows, -9), by_slot(kRows, -9);
  ASSERT_TRUE(backend
                  ->ChooseTokens({logits.data(), rows.data(), whole.data(),
                                  by_slot.data(), kVocab, kRows})
                  .ok());
  EXPECT_EQ(whole[4], kNoToken);
  EXPECT_EQ(whole[6], kLogitsNotFinite);
  EXPECT_EQ(whole[7], kLogitsOverflow);
  for (int32_t world : {2, 4, 8}) {
    const int32_t each = (kVocab + world - 1) / world;
    std::vector<ShardChoice> choices(world * kRows);
    for (int32_t rank = 0; rank < world; ++rank) {
      const int32_t first = rank * each;
      const int32_t size = std::min(each, kVocab - first);
      std::vector<float> shard;
      for (int32_t i = 0; i < kRows; ++i) {
        const auto begin = logits.begin() + int64_t{i} * kVocab + first;
        shard.insert(shard.end(), begin, begin + size);
      }
      ChooseTokensParams choose = {.logits = shard.data(),
                                   .rows = rows.data(),
                                   .tokens = nullptr,
                                   .by_slot = nullptr,
                                   .num_vocab = size,
                                   .num_rows = kRows};
      choose.first_id = first;
      choose.choices = &choices[rank * kRows];
      ASSERT_TRUE(backend->ChooseTokens(choose).ok());
    }
    std::vector<int32_t> merged(kRows, -9), merged_by_slot(kRows, -9);
    ASSERT_TRUE(backend
                    ->MergeChoices({choices.data(), rows.data(), merged.data(),
                                    merged_by_slot.data(), world, kRows})
                    .ok());
    EXPECT_EQ(merged, whole) << world << " shards";
    EXPECT_EQ(merged_by_slot, by_slot);
  }
}

TEST(ChooseTokensTest, LogitsThatCannotBeChosenFromSayWhy) {
  constexpr int32_t kVocab = 5000;
  std::vector<float> logits(4 * kVocab, 0.0f);
  logits[4999] = std::nanf("");
  logits[kVocab + 7] = kInf;
  std::fill_n(&logits[2 * kVocab], kVocab, -kInf);
  logits[3 * kVocab + 11] = 3e38f;
  std::vector<ChoiceRow> rows;
  for (int32_t i = 0; i < 4; ++i) rows.push_back({1, 2, 0.5f, i, 0});
  std::vector<int32_t> tokens(4), by_slot(4);
  const auto backend = MakeTestBackend(DType::kF32, 1);
  ASSERT_TRUE(backend
                  ->ChooseTokens({logits.data(), rows.data(), tokens.data(),
                                  by_slot.data(), kVocab, 4})
                  .ok());
  EXPECT_EQ(tokens, (std::vector<int32_t>{kLogitsNotFinite, kLogitsNotFinite,
                                          kNoToken, kLogitsOverflow}));
}

}  // namespace
}  // namespace quire
