// SPDX-License-Identifier: Apache-2.0
#include "kernels/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/philox.h"
#include "tests/kernels/cpu/sampled_rows.h"

namespace quire {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

double ReferenceNoise(const SampleRow& row, int32_t token_id) {
  const double u =
      ((TokenRandomWord(row.seed, row.position, token_id) >> 1) + 0.5) / 0x1p31;
  return -std::log(-std::log1p(-u));
}

TEST(SampleShardTest, SummariesAgreeWithDoublesForEverySizeAndShift) {
  for (int32_t n : {1, 3, 4, 15, 16, 17, 1023, 1024, 1025, 5000}) {
    for (int32_t first_id : {0, 1, 2, 3, 4096, 50257}) {
      const SampleRow row = Row(0.7f, /*seed=*/n, /*position=*/first_id);
      const std::vector<float> logits = RandomLogits(n, n + first_id);
      const ShardSummary summary =
          Sample(logits, {row}, 0, first_id).summaries[0];
      const float raw_max = *std::max_element(logits.begin(), logits.end());
      double raw_sum = 0, sum = 0, best = -kInf;
      int32_t best_id = -1;
      for (int32_t i = 0; i < n; ++i) {
        raw_sum += std::exp(double{logits[i]} - raw_max);
        sum += std::exp(double{logits[i] / 0.7f} - raw_max / 0.7f);
        const double noisy =
            logits[i] / 0.7f + ReferenceNoise(row, first_id + i);
        if (noisy > best) {
          best = noisy;
          best_id = first_id + i;
        }
      }
      EXPECT_EQ(summary.raw_max, raw_max);
      EXPECT_EQ(summary.max, raw_max / 0.7f);
      // exp's argument is rounded to 2^-24 of at most ~60, its value to 1 ulp;
      // a lane adds up 1024 / lanes values before double takes over.
      EXPECT_NEAR(summary.raw_sum / raw_sum, 1, 2e-5);
      EXPECT_NEAR(summary.sum / sum, 1, 2e-5);
      // The seeds leave gaps between best and second far above float's error.
      EXPECT_EQ(summary.best_token_id, best_id);
      EXPECT_NEAR(summary.best_noisy, best, 1e-5 * (1 + std::abs(best)));
      EXPECT_EQ(summary.best_raw_logit, logits[best_id - first_id]);
    }
  }
}

TEST(SampleShardTest, CandidatesAreTheSortedTopWithLowIdsFirst) {
  std::mt19937_64 random(3);
  for (int32_t n : {1, 7, 100, 1000, 4099}) {
    for (int32_t k : {1, 2, 20, 256, 5000}) {
      std::vector<float> logits(n);
      for (float& logit : logits) {  // many ties, some impossible ids
        const int32_t value = random() % 50;
        logit = value == 0 ? -kInf : value;
      }
      std::vector<int32_t> order;
      for (int32_t i = 0; i < n; ++i) {
        if (logits[i] > -kInf) order.push_back(i);
      }
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[a] > logits[b];
      });
      const Output out = Sample(logits, {Row(2)}, k, /*first_id=*/10);
      for (int32_t i = 0; i < k; ++i) {
        const Candidate& candidate = out.candidates[i];
        if (i >= order.size()) {
          EXPECT_EQ(candidate.token_id, -1);
          continue;
        }
        EXPECT_EQ(candidate.token_id, order[i] + 10) << n << " " << k;
        EXPECT_EQ(candidate.raw_logit, logits[order[i]]);
        EXPECT_EQ(candidate.logit, logits[order[i]] / 2);
      }
    }
  }
}

TEST(SampleShardTest, AscendingLogitsDoNotOverflowTheCandidates) {
  std::vector<float> logits(20'000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = i;
  const Output out = Sample(logits, {Row(1)}, 100);
  for (int32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(out.candidates[i].token_id, 19'999 - i);
  }
}

TEST(SampleShardTest, GreedyTakesTheLowestIdOfATie) {
  std::vector<float> logits(3000, 1);
  for (int32_t id : {2999, 2048, 1500, 77}) logits[id] = 9;
  EXPECT_EQ(Sample(logits, {Row(0)}, 0).summaries[0].best_token_id, 77);
}

TEST(SampleShardTest, PenaltiesAndMasksChangeJustTheirTokens) {
  std::vector<float> logits = {4, -4, 4, 4, 4, 4};
  const SeenToken seen[] = {{0, 0}, {1, 0}, {2, 3}, {99, 1}};
  const int32_t masked[] = {4, 99};
  SampleRow row = Row(0.5f);
  row.repetition_penalty = 2;
  row.frequency_penalty = 0.25f;
  row.presence_penalty = 1;
  row.seen = seen;
  row.num_seen = 4;
  row.masked = masked;
  row.num_masked = 2;
  const Output out = Sample(logits, {row}, 6);
  std::vector<float> adjusted(6, -kInf);
  for (const Candidate& candidate : out.candidates) {
    if (candidate.token_id >= 0) adjusted[candidate.token_id] = candidate.logit;
  }
  EXPECT_EQ(adjusted[0], 4.f / 2 / 0.5f);   // in the prompt: repetition only
  EXPECT_EQ(adjusted[1], -4.f * 2 / 0.5f);  // negative: times, not divided
  EXPECT_EQ(adjusted[2], (4.f / 2 - 3 * 0.25f - 1) / 0.5f);
  EXPECT_EQ(adjusted[3], 4 / 0.5f);
  EXPECT_EQ(adjusted[4], -kInf);
  EXPECT_EQ(adjusted[5], 4 / 0.5f);
  EXPECT_EQ(out.summaries[0].max, 8);
  EXPECT_EQ(out.summaries[0].raw_max, 4);  // raw is as the model gave it
}

// Every row its own lists, over more columns than a device takes at a time.
TEST(SampleShardTest, ListsOfManyTokensChangeJustTheirTokens) {
  const int32_t n = 20'003, num_rows = 5, k = 100;
  const std::vector<float> logits = RandomLogits(int64_t{num_rows} * n, 5);
  std::mt19937_64 random(6);
  std::vector<std::vector<SeenToken>> seen(num_rows);
  std::vector<std::vector<int32_t>> masked(num_rows);
  std::vector<SampleRow> rows;
  std::vector<float> adjusted = logits;
  for (int32_t r = 0; r < num_rows; ++r) {
    SampleRow row = Row(r % 2 == 0 ? 0 : 0.5f, /*seed=*/r);
    float* const own = adjusted.data() + int64_t{r} * n;
    for (int32_t i = 0; i < n; ++i) own[i] /= r % 2 == 0 ? 1 : 0.5f;
    if (r != 3) {  // one row has no lists
      row.repetition_penalty = 1.25f;
      row.frequency_penalty = 0.5f;
      row.presence_penalty = 0.25f;
      for (int32_t id = random() % 40; id < n; id += 1 + random() % 40) {
        seen[r].push_back({id, static_cast<int32_t>(random() % 3)});
        float logit = logits[int64_t{r} * n + id];
        logit = logit > 0 ? logit / 1.25f : logit * 1.25f;
        logit -= 0.5f * seen[r].back().output_count;
        if (seen[r].back().output_count > 0) logit -= 0.25f;
        own[id] = logit / (r % 2 == 0 ? 1 : 0.5f);
      }
      // Likely ones, some of them seen.
      for (int32_t i = 0; i < 20; ++i) {
        const int32_t id = std::max_element(own, own + n) - own;
        masked[r].push_back(id);
        own[id] = -kInf;
      }
    }
    row.seen = seen[r].data();
    row.num_seen = static_cast<int32_t>(seen[r].size());
    row.masked = masked[r].data();
    row.num_masked = static_cast<int32_t>(masked[r].size());
    rows.push_back(row);
  }
  const Output out = Sample(logits, rows, k);
  for (int32_t r = 0; r < num_rows; ++r) {
    SCOPED_TRACE(testing::Message() << "row " << r);
    const float* const own = adjusted.data() + int64_t{r} * n;
    const ShardSummary& summary = out.summaries[r];
    const float max = *std::max_element(own, own + n);
    double sum = 0, best = -kInf;
    int32_t best_id = -1;
    std::vector<int32_t> order;
    for (int32_t i = 0; i < n; ++i) {
      if (own[i] == -kInf) continue;
      sum += std::exp(double{own[i]} - max);
      order.push_back(i);
      const double noisy =
          own[i] + (r % 2 == 0 ? 0 : ReferenceNoise(rows[r], i));
      if (noisy > best) {
        best = noisy;
        best_id = i;
      }
    }
    // One rounding where a compiler fuses a product and a difference.
    EXPECT_NEAR(summary.max, max, 1e-6 * std::abs(max));
    EXPECT_NEAR(summary.sum / sum, 1, 2e-5);
    EXPECT_EQ(summary.best_token_id, best_id);
    std::partial_sort(order.begin(), order.begin() + k, order.end(),
                      [&](int32_t a, int32_t b) { return own[a] > own[b]; });
    for (int32_t i = 0; i < k; ++i) {
      const Candidate& candidate = out.candidates[int64_t{r} * k + i];
      EXPECT_NEAR(candidate.logit, own[order[i]], 1e-5);
      EXPECT_EQ(candidate.raw_logit,
                logits[int64_t{r} * n + candidate.token_id]);
    }
  }
}

TEST(SampleShardTest, ImpossibleTokensAreNeverBest) {
  std::vector<float> logits(100, -kInf);
  logits[42] = -1e30f;
  for (float temperature : {0.f, 1.f}) {
    const Output out = Sample(logits, {Row(temperature)}, 3);
    EXPECT_EQ(out.summaries[0].best_token_id, 42);
    EXPECT_EQ(out.candidates[0].token_id, 42);
    EXPECT_EQ(out.candidates[1].token_id, -1);
  }
  logits[42] = -kInf;
  const Output none = Sample(logits, {Row(1)}, 1);
  EXPECT_EQ(none.summaries[0].best_token_id, -1);
  EXPECT_EQ(none.summaries[0].sum, 0);
  EXPECT_EQ(none.summaries[0].raw_sum, 0);
  EXPECT_EQ(none.candidates[0].token_id, -1);
}

TEST(SampleShardTest, NotANumberOrInfinityMarksItsRowAlone) {
  for (float bad : {std::nanf(""), kInf}) {
    for (int32_t column : {0, 15, 16, 36}) {
      std::vector<float> logits = RandomLogits(2 * 37, 1);
      logits[37 + column] = bad;
      const Output out = Sample(logits, {Row(1), Row(1)}, 2);
      EXPECT_FALSE(std::isnan(out.summaries[0].raw_max));
      EXPECT_TRUE(std::isnan(out.summaries[1].raw_max));
      EXPECT_EQ(out.summaries[1].best_token_id, -1);
      EXPECT_EQ(out.candidates[2].token_id, -1);
    }
  }
}

// Bitwise: neither the other rows nor threads nor how the vocabulary is cut
// change what a token's noisy logit is.
TEST(SampleShardTest, RowsShardsAndThreadsDoNotChangeTheChoice) {
  const int32_t n = 4003;
  const std::vector<float> one = RandomLogits(n, 9);
  std::vector<float> many = one;
  for (int i = 0; i < 6; ++i) many.insert(many.end(), one.begin(), one.end());
  const ShardSummary alone = Sample(one, {Row(1)}, 0).summaries[0];
  const Output batch = Sample(
      many, {Row(1), Row(0), Row(2), Row(1), Row(1, 7), Row(0.1f), Row(1)}, 10,
      /*first_id=*/0, /*num_threads=*/3);
  for (int row : {0, 3, 6}) {
    EXPECT_EQ(batch.summaries[row].best_token_id, alone.best_token_id);
    EXPECT_EQ(batch.summaries[row].best_noisy, alone.best_noisy);
    EXPECT_EQ(batch.summaries[row].sum, alone.sum);
  }
  float best = -kInf;
  int32_t best_id = -1;
  for (int32_t begin = 0; begin < n; begin += 1001) {
    const int32_t end = std::min(n, begin + 1001);
    const std::vector<float> shard(one.begin() + begin, one.begin() + end);
    const ShardSummary part = Sample(shard, {Row(1)}, 0, begin).summaries[0];
    if (part.best_noisy > best) {
      best = part.best_noisy;
      best_id = part.best_token_id;
    }
  }
  EXPECT_EQ(best, alone.best_noisy);
  EXPECT_EQ(best_id, alone.best_token_id);
}

// Pearson's statistic of draws against the softmax computed in double.
double ChiSquare(const std::vector<float>& logits, float temperature,
                 const std::vector<int>& counts, int num_draws) {
  double total = 0, chi_square = 0;
  for (float logit : logits) total += std::exp(double{logit} / temperature);
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected =
        num_draws * std::exp(double{logits[i]} / temperature) / total;
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return chi_square;
}

// With 39 degrees of freedom the statistic exceeds 85 with probability 3e-5;
// the seeds are fixed, so the test either always passes or never.
TEST(SampleShardTest, DrawsFollowTheSoftmaxOverSeedsAndOverPositions) {
  const int num_draws = 40'000, batch = 1000;
  const std::vector<float> logits = RandomLogits(40, 11, /*scale=*/0.8f);
  std::vector<float> many;
  for (int i = 0; i < batch; ++i) {
    many.insert(many.end(), logits.begin(), logits.end());
  }
  for (float temperature : {0.6f, 1.f, 1.7f}) {
    std::vector<int> by_seed(40), by_position(40);
    for (int begin = 0; begin < num_draws; begin += batch) {
      std::vector<SampleRow> seeds, positions;
      for (int i = begin; i < begin + batch; ++i) {
        seeds.push_back(Row(temperature, /*seed=*/i, /*position=*/3));
        positions.push_back(Row(temperature, /*seed=*/99, i));
      }
      for (const ShardSummary& summary : Sample(many, seeds, 0).summaries) {
        ++by_seed[summary.best_token_id];
      }
      for (const ShardSummary& summary : Sample(many, positions, 0).summaries) {
        ++by_position[summary.best_token_id];
      }
    }
    EXPECT_LT(ChiSquare(logits, temperature, by_seed, num_draws), 85);
    EXPECT_LT(ChiSquare(logits, temperature, by_position, num_draws), 85);
  }
}

}  // namespace
}  // namespace quire
