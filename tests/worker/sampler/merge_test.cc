// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/sample.h"

namespace quire {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// What `num_shards` ranks would exchange about one row of logits.
class Shards {
 public:
  Shards(const std::vector<float>& logits, const SlotSampling& sampling,
         int64_t position, int32_t num_shards, int32_t width) {
    const int32_t n = static_cast<int32_t>(logits.size());
    const int32_t per_shard = (n + num_shards - 1) / num_shards;
    SampleRow row = {};
    row.seed = sampling.seed;
    row.position = position;
    row.temperature = sampling.temperature;
    row.repetition_penalty = 1;
    summaries_.resize(num_shards);
    candidates_.resize(num_shards);
    ThreadScratch scratch(1);
    for (int32_t i = 0; i < num_shards; ++i) {
      SampleShardParams params = {};
      params.first_id = std::min(n, i * per_shard);
      params.num_vocab = std::min(n - params.first_id, per_shard);
      params.logits = logits.data() + params.first_id;
      params.num_rows = 1;
      params.rows = &row;
      params.summaries = &summaries_[i];
      candidates_[i].resize(width);
      params.candidates = candidates_[i].data();
      params.num_candidates = width;
      SampleShardCpu(params, ThreadTeam(1), &scratch);
      rows_.push_back(
          {&summaries_[i], candidates_[i].data(), width, params.num_vocab});
    }
  }
  absl::Span<const ShardRow> rows() const { return rows_; }

 private:
  std::vector<ShardSummary> summaries_;
  std::vector<std::vector<Candidate>> candidates_;
  std::vector<ShardRow> rows_;
};

// The chosen token, or -1 if the candidates do not suffice.
TokenId Choose(const std::vector<float>& logits, const SlotSampling& sampling,
               int64_t position, int32_t num_shards, int32_t width) {
  const Shards shards(logits, sampling, position, num_shards, width);
  std::vector<Candidate> kept;
  const auto chosen = ChooseToken(shards.rows(), sampling, position, &kept);
  EXPECT_TRUE(chosen.ok()) << chosen.status();
  return chosen->has_value() ? (*chosen)->token_id : -1;
}

std::vector<float> RandomLogits(int32_t n, uint64_t seed, float scale) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

// The distribution that the filters leave, straight from their definitions.
std::vector<double> Exact(const std::vector<float>& logits,
                          const SlotSampling& sampling) {
  const int32_t n = static_cast<int32_t>(logits.size());
  std::vector<int32_t> order(n);
  std::vector<double> p(n);
  const double max = *std::max_element(logits.begin(), logits.end());
  for (int32_t i = 0; i < n; ++i) {
    order[i] = i;
    p[i] = std::exp((logits[i] - max) / sampling.temperature);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return p[a] > p[b]; });
  std::vector<int32_t> kept;
  for (int32_t i = 0; i < n; ++i) {
    if (sampling.top_k > 0 && i >= sampling.top_k) break;
    if (p[order[i]] < sampling.min_p) break;  // the largest is 1
    kept.push_back(order[i]);
  }
  double total = 0;
  for (int32_t id : kept) total += p[id];
  double before = 0, kept_total = 0;
  std::vector<double> result(n, 0);
  for (int32_t id : kept) {
    if (before >= sampling.top_p * total) break;
    before += p[id];
    result[id] = p[id];
    kept_total += p[id];
  }
  for (double& value : result) value /= kept_total;
  return result;
}

std::vector<SlotSampling> Filters() {
  std::vector<SlotSampling> filters(8);
  filters[1].top_k = 5;
  filters[2].top_p = 0.7f;
  filters[3].min_p = 0.1f;
  filters[4].top_k = 8;
  filters[4].top_p = 0.8f;
  filters[5].min_p = 0.05f;
  filters[5].top_p = 0.9f;
  filters[6] = filters[5];
  filters[6].top_k = 12;
  filters[6].temperature = 1.6f;
  filters[7].top_p = 0.5f;
  filters[7].temperature = 0.7f;
  return filters;
}

// At most 29 degrees of freedom: above 66 with probability 1e-4. The seeds are
// fixed, so the test either always passes or never.
TEST(MergeTest, DrawsFollowTheFilteredSoftmax) {
  const std::vector<float> logits = RandomLogits(30, 5, /*scale=*/1);
  const int num_draws = 20'000;
  for (SlotSampling sampling : Filters()) {
    const std::vector<double> exact = Exact(logits, sampling);
    std::vector<int> counts(30);
    for (int i = 0; i < num_draws; ++i) {
      sampling.seed = i;
      ++counts[Choose(logits, sampling, /*position=*/i % 7, 1, 30)];
    }
    double chi_square = 0;
    for (int id = 0; id < 30; ++id) {
      if (exact[id] == 0) {
        EXPECT_EQ(counts[id], 0) << "a token that filters remove";
        continue;
      }
      const double expected = exact[id] * num_draws;
      chi_square +=
          (counts[id] - expected) * (counts[id] - expected) / expected;
    }
    EXPECT_LT(chi_square, 66);
  }
}

TEST(MergeTest, NeitherShardsNorWidthChangeTheChoice) {
  int num_narrow_answers = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const std::vector<float> logits = RandomLogits(1000 + seed, seed, 3);
    for (SlotSampling sampling : Filters()) {
      sampling.seed = seed;
      const TokenId whole = Choose(logits, sampling, 9, 1, 2000);
      ASSERT_GE(whole, 0);
      for (int32_t num_shards : {1, 2, 4}) {
        EXPECT_EQ(Choose(logits, sampling, 9, num_shards, 2000), whole);
        const TokenId narrow = Choose(logits, sampling, 9, num_shards, 16);
        if (narrow >= 0) ++num_narrow_answers;
        EXPECT_TRUE(narrow == -1 || narrow == whole);
      }
    }
  }
  EXPECT_GT(num_narrow_answers, 500);  // of 1440: mostly few do suffice
}

TEST(MergeTest, AFlatNucleusAsksForMore) {
  const std::vector<float> flat(4000, 1.f);
  SlotSampling sampling;
  sampling.top_p = 0.9f;
  int num_asking = 0;
  for (sampling.seed = 0; sampling.seed < 50; ++sampling.seed) {
    num_asking += Choose(flat, sampling, 1, 2, 128) == -1 ? 1 : 0;
    EXPECT_LT(Choose(flat, sampling, 1, 2, 4000), 3602);  // 0.9 by lowest ids
  }
  EXPECT_GT(num_asking, 40);
}

TEST(MergeTest, GreedyTakesTheLowestIdWhereverTheShardsAreCut) {
  std::vector<float> logits(100, 0);
  logits[30] = logits[31] = logits[80] = 5;
  SlotSampling sampling;
  sampling.temperature = 0;
  sampling.top_p = 0.1f;  // says nothing to greedy
  for (int32_t num_shards : {1, 2, 3, 4, 7}) {
    EXPECT_EQ(Choose(logits, sampling, 1, num_shards, 0), 30);
  }
}

TEST(MergeTest, TopKOfEqualsKeepsExactlyKLowestIds) {
  const std::vector<float> flat(64, 2.f);
  SlotSampling sampling;
  sampling.top_k = 3;
  std::set<TokenId> seen;
  for (sampling.seed = 0; sampling.seed < 200; ++sampling.seed) {
    seen.insert(Choose(flat, sampling, 1, 4, 3));
  }
  EXPECT_EQ(seen, (std::set<TokenId>{0, 1, 2}));
}

TEST(MergeTest, ShardsWithoutAnyPossibleTokenAreNoHindrance) {
  std::vector<float> logits(40, -kInf);
  logits[25] = 1;
  for (SlotSampling sampling : Filters()) {
    for (int32_t num_shards : {1, 2, 4}) {
      EXPECT_EQ(Choose(logits, sampling, 1, num_shards, 8), 25);
    }
  }
}

TEST(MergeTest, RowsThatCannotBeSampledAreInternal) {
  std::vector<float> logits(40, 1);
  std::vector<Candidate> kept;
  SlotSampling sampling;
  for (float bad : {std::nanf(""), kInf}) {
    logits[33] = bad;
    const Shards shards(logits, sampling, 1, 2, 4);
    EXPECT_EQ(ChooseToken(shards.rows(), sampling, 1, &kept).status().message(),
              "the logits hold NaN or infinity");
  }
  const Shards none(std::vector<float>(40, -kInf), sampling, 1, 2, 4);
  EXPECT_EQ(ChooseToken(none.rows(), sampling, 1, &kept).status().message(),
            "no token may be chosen");
}

TEST(MergeTest, LogprobsAreOfTheRawLogitsAtAnyTemperature) {
  const std::vector<float> logits = RandomLogits(500, 3, 2);
  double max = *std::max_element(logits.begin(), logits.end()), sum = 0;
  for (float logit : logits) sum += std::exp(logit - max);
  const double log_sum = max + std::log(sum);
  std::vector<int32_t> order(500);
  for (int32_t i = 0; i < 500; ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  for (float temperature : {0.f, 0.3f, 1.f, 2.f}) {
    for (int32_t rank : {1, 2, 20, 100, 500}) {
      SlotSampling sampling;
      sampling.temperature = temperature;
      const TokenId token = order[rank - 1];
      const Shards shards(logits, sampling, 1, 4, 500);
      SampledLogprobs out;
      ASSERT_TRUE(FillLogprobs(shards.rows(), {token, logits[token]},
                               temperature < 1e-5f ? 1 : temperature,
                               /*num_top=*/5, &out));
      // Float sums of 500 terms: 500 * 2^-24 relative at worst, 3e-5.
      EXPECT_NEAR(out.logprob, logits[token] - log_sum, 5e-5);
      EXPECT_EQ(out.rank, rank);
      ASSERT_EQ(out.top.size(), 5);
      for (int32_t i = 0; i < 5; ++i) {
        EXPECT_EQ(out.top[i].token_id, order[i]);
        EXPECT_NEAR(out.top[i].logprob, logits[order[i]] - log_sum, 5e-5);
      }
    }
  }
}

TEST(MergeTest, ALogprobBeyondTheCandidatesAsksForMore) {
  const std::vector<float> logits = RandomLogits(500, 3, 2);
  const TokenId least = static_cast<TokenId>(
      std::min_element(logits.begin(), logits.end()) - logits.begin());
  SlotSampling sampling;
  const Shards shards(logits, sampling, 1, 2, 16);
  SampledLogprobs out;
  EXPECT_FALSE(FillLogprobs(shards.rows(), {least, logits[least]}, 1, 5, &out));
  EXPECT_FALSE(FillLogprobs(shards.rows(), {0, 100.f}, 1, 40, &out));
}

TEST(ExplainChoiceTest, NamesWhatIsWrong) {
  EXPECT_STREQ(ExplainChoice(kLogitsNotFinite),
               "the logits hold NaN or infinity");
  EXPECT_STREQ(ExplainChoice(kLogitsOverflow),
               "the logits overflow at this temperature");
  EXPECT_STREQ(ExplainChoice(kNoToken), "no token may be chosen");
}

}  // namespace
}  // namespace quire
