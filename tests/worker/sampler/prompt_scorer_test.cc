// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/prompt_scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "worker/collective/local.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 3000;

// Scores by `world` ranks, each of which sees its columns only; all must agree.
absl::StatusOr<std::vector<SampledLogprobs>> ScoreWith(
    int32_t world, const std::vector<ScoredToken>& tokens,
    const std::vector<std::vector<float>>& logits) {
  LocalGroup group(world);
  std::vector<absl::Status> statuses(world);
  std::vector<std::vector<SampledLogprobs>> results(world);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      const int32_t per_rank = (kVocab + world - 1) / world;
      VocabShard vocab;
      vocab.first_id = rank * per_rank;
      vocab.num_ids = std::min(per_rank, kVocab - vocab.first_id);
      std::vector<float> mine;
      for (const std::vector<float>& row : logits) {
        mine.insert(mine.end(), row.begin() + vocab.first_id,
                    row.begin() + vocab.first_id + vocab.num_ids);
      }
      FakeBackend backend;
      auto scorer = PromptScorer::Create(&backend, group.collective(rank),
                                         vocab, /*max_num_rows=*/8);
      EXPECT_TRUE(scorer.ok()) << scorer.status();
      results[rank].push_back({});  // scores are appended
      statuses[rank] = (*scorer)->Score(mine.data(), tokens, &results[rank]);
      results[rank].erase(results[rank].begin());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int32_t rank = 1; rank < world; ++rank) {
    EXPECT_EQ(statuses[rank], statuses[0]);
    EXPECT_EQ(results[rank], results[0]);
  }
  if (!statuses[0].ok()) return statuses[0];
  return results[0];
}

TEST(PromptScorerTest, ScoresAreThoseOfDoublesHoweverManyRanks) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<std::vector<float>> logits(6, std::vector<float>(kVocab));
  for (auto& row : logits) {
    for (float& logit : row) logit = normal(random);
  }
  logits[1][17] = logits[1][2900] = 12;  // equals on the first and last ranks
  const std::vector<ScoredToken> tokens = {{0, 0},    {2900, 5}, {1500, 20},
                                           {2999, 1}, {7, 32},   {17, 0}};
  for (int32_t world : {1, 2, 4}) {
    SCOPED_TRACE(world);
    const auto scores = ScoreWith(world, tokens, logits);
    ASSERT_TRUE(scores.ok()) << scores.status();
    ASSERT_EQ(scores->size(), tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::vector<float>& row = logits[i];
      double sum = 0;
      for (float logit : row) sum += std::exp(double{logit});
      const float own = row[tokens[i].token_id];
      const SampledLogprobs& score = (*scores)[i];
      // A sum of 3,000 floats in chunks errs by 1e-6 of its value at most.
      EXPECT_NEAR(score.logprob, own - std::log(sum), 4e-6);
      EXPECT_EQ(score.rank,
                1 + std::count_if(row.begin(), row.end(),
                                  [own](float x) { return x > own; }));
      std::vector<TokenId> order(kVocab);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](TokenId a, TokenId b) { return row[a] > row[b]; });
      ASSERT_EQ(score.top.size(), tokens[i].num_top);
      for (int32_t t = 0; t < tokens[i].num_top; ++t) {
        EXPECT_EQ(score.top[t].token_id, order[t]);
        EXPECT_NEAR(score.top[t].logprob, row[order[t]] - std::log(sum), 4e-6);
      }
    }
  }
}

TEST(PromptScorerTest, NotANumberIsInternalOnEveryRank) {
  std::vector<std::vector<float>> logits(2, std::vector<float>(kVocab, 0));
  logits[1][kVocab - 1] = std::nanf("");
  const auto scores = ScoreWith(2, {{1, 0}, {2, 0}}, logits);
  EXPECT_EQ(scores.status().message(),
            "the logits of a prompt hold NaN or infinity");
}

TEST(PromptScorerTest, NothingToScoreIsFine) {
  const auto scores = ScoreWith(2, {}, {});
  ASSERT_TRUE(scores.ok());
  EXPECT_TRUE(scores->empty());
}

}  // namespace
}  // namespace quire
