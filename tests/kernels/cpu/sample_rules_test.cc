// SPDX-License-Identifier: Apache-2.0
//
// What a row asks for besides penalties: biases, allowed bits, scores.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/sample.h"
#include "tests/kernels/cpu/sampled_rows.h"

namespace quire {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// Row `row_idx`'s logits as its candidates tell them: -infinity elsewhere.
std::vector<float> Adjusted(const Output& out, int32_t row_idx, int32_t n,
                            int32_t first_id = 0) {
  std::vector<float> adjusted(n, -kInf);
  for (int32_t i = 0; i < n; ++i) {
    const Candidate& c = out.candidates[int64_t{row_idx} * n + i];
    if (c.token_id >= 0) adjusted[c.token_id - first_id] = c.logit;
  }
  return adjusted;
}

TEST(SampleRulesTest, ABiasComesBeforeThePenalties) {
  const std::vector<float> logits = {1, 1, 1, 1, 1};
  const TokenBias biases[] = {{1, -3}, {2, 5}, {4, 0.5f}, {90, 100}};
  const SeenToken seen[] = {{1, 0}, {2, 2}, {3, 1}};
  SampleRow row = Row(0.5f);
  row.biases = biases;
  row.num_biases = 4;
  row.seen = seen;
  row.num_seen = 3;
  row.repetition_penalty = 2;
  row.frequency_penalty = 0.25f;
  row.presence_penalty = 1;
  const Output out = Sample(logits, {row}, 5);
  EXPECT_EQ(Adjusted(out, 0, 5),
            (std::vector<float>{
                1 / 0.5f,
                // Below 0 by its bias, so the penalty multiplies.
                (1 - 3) * 2.f / 0.5f,
                ((1 + 5) / 2.f - 0.25f * 2 - 1) / 0.5f,
                (1 / 2.f - 0.25f - 1) / 0.5f,
                (1 + 0.5f) / 0.5f,
            }));
  EXPECT_EQ(out.summaries[0].raw_max, 1);  // raw is as the model gave it
}

TEST(SampleRulesTest, BitsForbidTokensWhateverTheShardBeginsWith) {
  std::mt19937_64 random(2);
  for (int32_t n : {1, 31, 32, 33, 100, 5000}) {
    for (int32_t first_id : {0, 1, 31, 32, 4097}) {
      const std::vector<float> logits = RandomLogits(n, n + first_id);
      // Some words full, some empty, some mixed, and too few of them.
      std::vector<uint32_t> words((first_id + n) / 32 + 1);
      for (uint32_t& word : words) {
        const int kind = random() % 4;
        word = kind == 0 ? 0 : kind == 1 ? ~0u : random();
      }
      if (words.size() > 2) words.resize(words.size() - 2);
      SampleRow row = Row(0.7f);
      row.allowed = words.data();
      row.num_allowed_words = static_cast<int32_t>(words.size());
      const Output out = Sample(logits, {row}, n, first_id);
      const std::vector<float> adjusted = Adjusted(out, 0, n, first_id);
      double sum = 0;
      float max = -kInf;
      for (int32_t i = 0; i < n; ++i) {
        const size_t id = first_id + i;
        const bool is_allowed =
            id / 32 < words.size() && (words[id / 32] >> (id % 32) & 1) != 0;
        EXPECT_EQ(adjusted[i], is_allowed ? logits[i] / 0.7f : -kInf) << id;
        max = std::max(max, adjusted[i]);
      }
      for (float logit : adjusted) {
        if (max > -kInf) sum += std::exp(double{logit} - max);
      }
      const ShardSummary& summary = out.summaries[0];
      EXPECT_EQ(summary.max, max);
      // As sample_test's: exp's argument is rounded to 2^-24 of at most 60.
      EXPECT_NEAR(summary.sum, sum, 2e-5 * sum);
      if (max == -kInf) {
        EXPECT_EQ(summary.best_token_id, -1);
      } else {
        EXPECT_GT(adjusted[summary.best_token_id - first_id], -kInf);
      }
    }
  }
}

TEST(SampleRulesTest, RowsOfABatchKeepTheirOwnRules) {
  const int32_t n = 9'001;
  const std::vector<float> one = RandomLogits(n, 7);
  std::vector<float> logits;
  for (int32_t r = 0; r < 5; ++r) {
    logits.insert(logits.end(), one.begin(), one.end());
  }
  const TokenBias biases[] = {{8'000, 100}};
  std::vector<uint32_t> words((n + 31) / 32);
  words[100] = 1;
  const int32_t masked[] = {8'000, 3'200};
  std::vector<SampleRow> rows(5, Row(1));
  rows[1].biases = biases;
  rows[1].num_biases = 1;
  rows[2].allowed = words.data();
  rows[2].num_allowed_words = static_cast<int32_t>(words.size());
  rows[3].biases = biases;
  rows[3].num_biases = 1;
  rows[3].masked = masked;  // wins over the bias
  rows[3].num_masked = 2;
  const Output out = Sample(logits, rows, 4);
  const Output alone = Sample(one, {Row(1)}, 4);
  for (int32_t r : {0, 4}) {
    EXPECT_EQ(out.summaries[r].best_token_id, alone.summaries[0].best_token_id);
    EXPECT_EQ(out.summaries[r].best_noisy, alone.summaries[0].best_noisy);
    EXPECT_EQ(out.summaries[r].sum, alone.summaries[0].sum);
  }
  EXPECT_EQ(out.summaries[1].best_token_id, 8'000);
  EXPECT_EQ(out.candidates[4].token_id, 8'000);
  EXPECT_EQ(out.candidates[4].raw_logit, one[8'000]);
  EXPECT_EQ(out.summaries[2].best_token_id, 3'200);
  EXPECT_EQ(out.candidates[2 * 4 + 1].token_id, -1);  // there is but one
  EXPECT_NE(out.summaries[3].best_token_id, 8'000);
}

TEST(SampleRulesTest, AScoreTellsARawLogitAndHowManyAreAbove) {
  for (int32_t n : {1, 17, 1000, 9'001}) {
    std::vector<float> logits = RandomLogits(n, n);
    for (int32_t first_id : {0, 77}) {
      for (int32_t column : {0, n / 2, n - 1}) {
        SampleRow row = Row(0);
        row.is_scored = 1;
        row.scored_id = first_id + column;
        row.count_above = logits[column];
        const ShardSummary summary =
            Sample(logits, {row}, 0, first_id).summaries[0];
        EXPECT_EQ(summary.scored_logit, logits[column]);
        EXPECT_EQ(summary.num_above,
                  std::count_if(logits.begin(), logits.end(),
                                [&](float x) { return x > logits[column]; }));
      }
      for (int32_t elsewhere : {first_id - 1, first_id + n}) {
        SampleRow row = Row(0);
        row.is_scored = 1;
        row.scored_id = elsewhere;
        row.count_above = kInf;
        const ShardSummary summary =
            Sample(logits, {row}, 0, first_id).summaries[0];
        EXPECT_EQ(summary.scored_logit, -kInf);
        EXPECT_EQ(summary.num_above, 0);
      }
    }
  }
}

}  // namespace
}  // namespace quire
