// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "worker/collective/local.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 5000;

struct Sequence {
  std::vector<TokenId> tokens;
  int32_t num_prompt = 0;
  SlotSampling sampling;
};

// Samples every sequence from its row of logits with `world` ranks, each of
// which sees its columns only; all must agree.
absl::StatusOr<SampledTokens> SampleWith(
    int32_t world, const std::vector<Sequence>& sequences,
    const std::vector<std::vector<float>>& logits, int32_t num_steps = 1) {
  LocalGroup group(world);
  std::vector<absl::StatusOr<SampledTokens>> results(
      world, absl::StatusOr<SampledTokens>(absl::UnknownError("not run")));
  const auto run = [&](int32_t rank) -> absl::StatusOr<SampledTokens> {
    SlotLimits limits;
    limits.max_num_seqs = static_cast<int32_t>(sequences.size());
    limits.max_model_len = 1000;
    limits.block_size = 1000;
    limits.num_blocks = limits.max_num_seqs;
    limits.vocab_size = kVocab;
    SlotStates slots(limits);
    StepPlan plan;
    std::vector<SlotId> slot_ids;
    for (int32_t i = 0; i < limits.max_num_seqs; ++i) {
      AdmittedSlot admitted;
      admitted.slot = SlotId(i);
      admitted.tokens = sequences[i].tokens;
      admitted.num_prompt_tokens = sequences[i].num_prompt;
      admitted.sampling = sequences[i].sampling;
      admitted.cache = std::vector<BlockId>{BlockId(i)};
      plan.admitted.push_back(admitted);
      slot_ids.push_back(SlotId(i));
    }
    EXPECT_TRUE(slots.Apply(plan).ok());
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
    auto sampler = Sampler::Create(&backend, group.collective(rank), vocab,
                                   limits.max_num_seqs);
    EXPECT_TRUE(sampler.ok()) << sampler.status();
    SampledTokens out;
    for (int32_t step = 0; step < num_steps; ++step) {
      const absl::Status status =
          (*sampler)->Sample(mine.data(), slot_ids, slots, &out);
      if (!status.ok()) return status;
    }
    return out;
  };
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] { results[rank] = run(rank); });
  }
  for (std::thread& thread : threads) thread.join();
  for (int32_t rank = 1; rank < world; ++rank) {
    EXPECT_EQ(results[rank].status(), results[0].status());
    if (!results[0].ok()) continue;
    EXPECT_EQ(results[rank]->tokens, results[0]->tokens);
    EXPECT_EQ(results[rank]->logprobs, results[0]->logprobs);
  }
  return results[0];
}

// Sequences of every kind of sampling, peaked and flat logits.
void MakeCases(std::vector<Sequence>* sequences,
               std::vector<std::vector<float>>* logits) {
  std::mt19937_64 random(17);
  for (int32_t i = 0; i < 48; ++i) {
    Sequence sequence;
    sequence.tokens = {3, 4, 5, static_cast<TokenId>(10 + i), 4};
    sequence.num_prompt = 3;
    SlotSampling& sampling = sequence.sampling;
    sampling.seed = random();
    sampling.temperature = (i % 4) * 0.5f;
    if (i % 3 == 0) sampling.top_p = 0.9f;
    if (i % 5 == 0) sampling.top_k = 1 + 300 * (i % 10);
    if (i % 7 == 0) sampling.min_p = 0.02f;
    if (i % 6 == 1) sampling.repetition_penalty = 1.3f;
    if (i % 6 == 2) sampling.frequency_penalty = 0.7f;
    if (i % 8 == 3) {
      sampling.min_tokens = 3;
      sampling.stop_token_ids = {1, 2, 4999};
    }
    sampling.num_logprobs = i % 2 == 0 ? i % 20 : -1;
    std::normal_distribution<float> normal(0, i % 4 == 1 ? 0.3f : 4.f);
    std::vector<float> row(kVocab);
    for (float& logit : row) logit = normal(random);
    sequences->push_back(sequence);
    logits->push_back(row);
  }
}

TEST(SamplerTest, TheNumberOfRanksDoesNotChangeTokens) {
  std::vector<Sequence> sequences;
  std::vector<std::vector<float>> logits;
  MakeCases(&sequences, &logits);
  const auto one = SampleWith(1, sequences, logits);
  ASSERT_TRUE(one.ok()) << one.status();
  for (int32_t world : {2, 4}) {
    const auto many = SampleWith(world, sequences, logits);
    ASSERT_TRUE(many.ok());
    EXPECT_EQ(many->tokens, one->tokens);
    ASSERT_EQ(many->logprobs.size(), one->logprobs.size());
    for (size_t i = 0; i < one->logprobs.size(); ++i) {
      const SampledLogprobs& a = one->logprobs[i];
      const SampledLogprobs& b = many->logprobs[i];
      EXPECT_EQ(a.sample_idx, b.sample_idx);
      EXPECT_EQ(a.rank, b.rank);
      // Sums cut elsewhere: 5000 floats, chunks added in double.
      EXPECT_NEAR(a.logprob, b.logprob, 1e-4);
      ASSERT_EQ(a.top.size(), b.top.size());
      for (size_t j = 0; j < a.top.size(); ++j) {
        EXPECT_EQ(a.top[j].token_id, b.top[j].token_id);
      }
    }
  }
}

TEST(SamplerTest, NeitherOtherRowsNorEarlierStepsChangeARow) {
  std::vector<Sequence> sequences;
  std::vector<std::vector<float>> logits;
  MakeCases(&sequences, &logits);
  const auto all = SampleWith(2, sequences, logits, /*num_steps=*/3);
  ASSERT_TRUE(all.ok());
  size_t next_logprobs = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto alone = SampleWith(2, {sequences[i]}, {logits[i]});
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ(alone->tokens[0], all->tokens[i]) << i;
    if (sequences[i].sampling.num_logprobs < 0) continue;
    const SampledLogprobs& together = all->logprobs[next_logprobs++];
    EXPECT_EQ(together.sample_idx, i);
    EXPECT_EQ(alone->logprobs[0].logprob, together.logprob);
    EXPECT_EQ(alone->logprobs[0].top, together.top);
  }
}

TEST(SamplerTest, StopTokensAreMaskedUntilMinTokens) {
  Sequence sequence;
  sequence.tokens = {7, 8, 9};
  sequence.num_prompt = 1;
  sequence.sampling.temperature = 0;
  sequence.sampling.stop_token_ids = {42};
  std::vector<float> row(kVocab, 0);
  row[42] = 9;
  row[43] = 5;
  sequence.sampling.min_tokens = 3;  // two are there
  EXPECT_EQ(SampleWith(2, {sequence}, {row})->tokens[0], 43);
  sequence.sampling.min_tokens = 2;
  EXPECT_EQ(SampleWith(2, {sequence}, {row})->tokens[0], 42);
}

TEST(SamplerTest, LogprobsIgnorePenaltiesAndMasks) {
  Sequence sequence;
  sequence.tokens = {42, 8, 9};
  sequence.num_prompt = 1;
  sequence.sampling.temperature = 0;
  sequence.sampling.repetition_penalty = 100;
  sequence.sampling.num_logprobs = 1;
  std::vector<float> row(kVocab, -std::numeric_limits<float>::infinity());
  row[42] = std::log(3.f);
  row[4000] = std::log(1.f);
  const auto sampled = SampleWith(2, {sequence}, {row});
  ASSERT_TRUE(sampled.ok());
  EXPECT_EQ(sampled->tokens[0], 42);  // log 3 / 100 is still above 0
  sequence.sampling.presence_penalty = 1;
  sequence.tokens = {8, 42, 9};  // now an output token
  const auto penalised = SampleWith(2, {sequence}, {row});
  EXPECT_EQ(penalised->tokens[0], 4000);
  ASSERT_EQ(penalised->logprobs.size(), 1);
  const SampledLogprobs& logprobs = penalised->logprobs[0];
  EXPECT_NEAR(logprobs.logprob, std::log(0.25), 1e-6);
  EXPECT_EQ(logprobs.rank, 2);
  ASSERT_EQ(logprobs.top.size(), 1);
  EXPECT_EQ(logprobs.top[0].token_id, 42);
  EXPECT_NEAR(logprobs.top[0].logprob, std::log(0.75), 1e-6);
}

TEST(SamplerTest, ABeamsLogprobsAreTheLikeliestOfAllRanks) {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(kVocab);
  for (float& logit : row) logit = normal(random);
  row[4990] = row[17];  // a tie between the first rank and the last
  Sequence sequence;
  sequence.tokens = {1, 2};
  sequence.num_prompt = 2;
  sequence.sampling.temperature = 0;
  sequence.sampling.num_logprobs = kMaxSlotLogprobs;
  double sum = 0;
  for (float logit : row) sum += std::exp(double{logit});
  std::vector<TokenId> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return row[a] > row[b]; });
  for (int32_t world : {1, 2, 4}) {
    const auto sampled = SampleWith(world, {sequence}, {row});
    ASSERT_TRUE(sampled.ok()) << sampled.status();
    EXPECT_EQ(sampled->tokens[0], order[0]);
    const std::vector<TopLogprob>& top = sampled->logprobs[0].top;
    ASSERT_EQ(top.size(), kMaxSlotLogprobs);
    for (int32_t i = 0; i < kMaxSlotLogprobs; ++i) {
      EXPECT_EQ(top[i].token_id, order[i]);
      // A sum of 5,000 floats in chunks errs by 1e-6 of its value at most.
      EXPECT_NEAR(top[i].logprob, row[order[i]] - std::log(sum), 4e-6);
    }
  }
}

TEST(SamplerTest, NotANumberOnOneRankIsInternalOnAllAndNamesTheSlot) {
  std::vector<Sequence> sequences(3);
  for (Sequence& sequence : sequences) sequence.tokens = {1};
  std::vector<std::vector<float>> logits(3, std::vector<float>(kVocab, 0));
  logits[1][kVocab - 1] = std::nanf("");
  const absl::Status status = SampleWith(4, sequences, logits).status();
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_EQ(status.message(), "slot 1: the logits hold NaN or infinity");
}

TEST(SamplerTest, NothingToSampleIsFine) {
  LocalGroup group(1);
  FakeBackend backend;
  const auto sampler = Sampler::Create(&backend, group.collective(0),
                                       {/*first_id=*/0, /*num_ids=*/10}, 4);
  SlotLimits limits;
  limits.max_num_seqs = 1;
  limits.max_model_len = 8;
  limits.block_size = 8;
  SlotStates slots(limits);
  SampledTokens out;
  out.tokens = {5};
  EXPECT_TRUE((*sampler)->Sample(nullptr, {}, slots, &out).ok());
  EXPECT_TRUE(out.tokens.empty());
}

}  // namespace
}  // namespace quire
