// SPDX-License-Identifier: Apache-2.0
//
// Steps that begin before the tokens of the last are known.
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/listed_choice.h"
#include "kernels/nucleus_choice.h"
#include "kernels/sample.h"
#include "kernels/shard_logprobs.h"
#include "tests/worker/executor/executor_world.h"
#include "worker/collective/local.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

// Runs `plans` beginning each before the one before is finished, where that may
// be. Returns how many were.
int RunAhead(Executor* executor, const std::vector<StepPlan>& plans,
             std::vector<StepResult>* results) {
  int num_ahead = 0;
  const auto finish = [&] {
    const absl::Status status = executor->Finish(&results->emplace_back());
    EXPECT_TRUE(status.ok()) << status;
  };
  for (const StepPlan& plan : plans) {
    while (executor->num_begun() > 0 && !executor->MayBegin(plan)) finish();
    num_ahead += executor->num_begun() > 0 ? 1 : 0;
    const absl::Status status = executor->Begin(plan);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(executor->Waiter()().ok());
  }
  while (executor->num_begun() > 0) finish();
  return num_ahead;
}

TEST(ExecutorRunAheadTest, AStepMayBeginBeforeTheTokensOfTheLastAreKnown) {
  for (const bool records_decodes : {false, true}) {
    const SimulatedClock clock;
    const auto executor =
        MakeExecutor(std::make_unique<SoloCollective>(), &clock,
                     /*spoil=*/false, records_decodes);
    ASSERT_TRUE(executor->AllocateKv(16, 4).ok());
    std::vector<StepResult> results;
    // All but the first, and those that swap, fork or resync.
    EXPECT_EQ(RunAhead(executor.get(), Script(), &results), 5);
    const auto expected = ExpectedTokens();
    ASSERT_EQ(results.size(), expected.size());
    for (size_t step = 0; step < expected.size(); ++step) {
      EXPECT_EQ(results[step].tokens, expected[step]) << "step " << step + 1;
      EXPECT_EQ(results[step].identity.step_id.value(), step + 1);
      EXPECT_EQ(results[step].token_digest, TokenDigest(expected[step]));
    }
  }
}

TEST(ExecutorRunAheadTest, ASeatGivenAwayKeepsNoTokenOfItsLastHolder) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  std::vector<StepPlan> plans(4);
  plans[0].admitted = {Admit(0, {1, 2, 3}, {0})};
  plans[0].chunks = {{SlotId(0), 3, true}};
  plans[1].decodes = {SlotId(0)};
  // While that one runs, its slot goes to another sequence.
  plans[2].released = {SlotId(0)};
  plans[2].admitted = {Admit(0, {7, 8}, {5})};
  plans[2].chunks = {{SlotId(0), 2, true}};
  plans[3].decodes = {SlotId(0)};
  std::vector<StepResult> results;
  EXPECT_EQ(RunAhead(executor.get(), plans, &results), 3);
  const auto next = Continue({7, 8}, 2);
  EXPECT_EQ(results[2].tokens, std::vector<TokenId>{next[0]});
  EXPECT_EQ(results[3].tokens, std::vector<TokenId>{next[1]});
}

TEST(ExecutorRunAheadTest, WhatTheHostChoosesWaitsForTheTokensBefore) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  StepPlan first;
  first.admitted = {Admit(0, {1, 2, 3}, {0})};
  first.admitted[0].sampling.presence_penalty = 1;
  first.chunks = {{SlotId(0), 3, true}};
  ASSERT_TRUE(executor->Begin(first).ok());
  StepPlan second;
  second.decodes = {SlotId(0)};
  EXPECT_FALSE(executor->MayBegin(second));
  StepResult result;
  ASSERT_TRUE(executor->Finish(&result).ok());
  EXPECT_TRUE(executor->MayBegin(second));
}

TEST(ExecutorRunAheadTest, WhatLooksAtTokensWaitsForThoseBefore) {
  const SimulatedClock clock;
  std::vector<StepPlan> looking(3);
  // Of four tokens, the last of which the step before samples.
  looking[0].forks = {{SlotId(0), SlotId(1), SequenceId(9), 0, 4}};
  looking[1].next_tokens = {{SlotId(0), 5}};
  looking[1].decodes = {SlotId(0)};
  looking[2].admitted = {Admit(2, {4, 5}, {6})};
  looking[2].admitted[0].sampling.bad_words = {{7, 8}};
  looking[2].chunks = {{SlotId(2), 2, true}};
  for (const StepPlan& plan : looking) {
    const auto executor = MakeExecutor(
        std::make_unique<SoloCollective>(), &clock, /*spoil=*/false,
        /*records_decodes=*/false, /*chooses_shaped=*/true);
    ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
    StepPlan first;
    first.admitted = {Admit(0, {1, 2, 3}, {0})};
    first.admitted[0].sampling.presence_penalty = 1;
    first.chunks = {{SlotId(0), 3, true}};
    ASSERT_TRUE(executor->Begin(first).ok());
    EXPECT_FALSE(executor->MayBegin(plan)) << &plan - looking.data();
    StepResult result;
    ASSERT_TRUE(executor->Finish(&result).ok());
    EXPECT_TRUE(executor->MayBegin(plan));
    const absl::Status status = executor->Step(plan, &result);
    EXPECT_TRUE(status.ok()) << status;
  }
}

// Sequences of every kind of sampling, decoded side by side; one leaves, and
// its slot goes to another.
std::vector<StepPlan> SampledScript() {
  std::vector<StepPlan> plans(9);
  for (int32_t slot = 0; slot < 4; ++slot) {
    plans[0].admitted.push_back(Admit(slot, {1 + slot, 2, 3, 2},
                                      {3 * slot, 3 * slot + 1, 3 * slot + 2}));
    SlotSampling& sampling = plans[0].admitted[slot].sampling;
    sampling.temperature = 0.9f;
    sampling.seed = 100 + slot;
    plans[0].chunks.push_back({SlotId(slot), 4, true});
  }
  plans[0].admitted[0].sampling.repetition_penalty = 2;
  plans[0].admitted[0].sampling.num_logprobs = 3;
  plans[0].admitted[0].sampling.frequency_penalty = 0.5f;
  plans[0].admitted[0].sampling.top_p = 0.7f;
  plans[0].admitted[1].sampling.top_p = 0.7f;
  plans[0].admitted[1].sampling.presence_penalty = 2;
  plans[0].admitted[1].sampling.logit_bias = {{5, 3.0f}, {90, 3.0f}};
  // Its largest tokens decide from the fifth step on, less those it had.
  plans[0].admitted[2].sampling.top_k = 7;
  plans[0].admitted[2].sampling.repetition_penalty = 3;
  plans[0].admitted[2].sampling.min_tokens = 4;
  for (TokenId id = 0; id < kVocab; id += 2) {
    plans[0].admitted[2].sampling.stop_token_ids.push_back(id);
  }
  plans[0].admitted[3].sampling.frequency_penalty = 2;
  for (size_t step = 1; step < plans.size(); ++step) {
    for (int32_t slot = 0; slot < 4; ++slot) {
      if (step == 5 && slot == 0) continue;
      plans[step].decodes.push_back(SlotId(slot));
    }
  }
  plans[5].released = {SlotId(0)};
  plans[5].admitted = {Admit(0, {60, 61, 60}, {0, 1, 2})};
  plans[5].admitted[0].sampling.temperature = 1.2f;
  plans[5].admitted[0].sampling.presence_penalty = 1.5f;
  plans[5].admitted[0].sampling.min_p = 0.01f;
  plans[5].admitted[0].sampling.num_logprobs = 0;
  plans[5].chunks = {{SlotId(0), 3, true}};
  return plans;
}

void ExpectSameLogprobs(const std::vector<SampledLogprobs>& by_device,
                        const std::vector<SampledLogprobs>& by_host) {
  ASSERT_EQ(by_device.size(), by_host.size());
  for (size_t i = 0; i < by_host.size(); ++i) {
    const SampledLogprobs& a = by_device[i];
    const SampledLogprobs& b = by_host[i];
    EXPECT_EQ(a.sample_idx, b.sample_idx);
    EXPECT_EQ(a.rank, b.rank);
    // Sums of 97 floats, and of as many doubles.
    EXPECT_NEAR(a.logprob, b.logprob, 1e-5);
    ASSERT_EQ(a.top.size(), b.top.size());
    for (size_t j = 0; j < a.top.size(); ++j) {
      EXPECT_EQ(a.top[j].token_id, b.top[j].token_id);
    }
  }
}

TEST(ExecutorRunAheadTest, WhatTheDeviceChoosesNeedsNoTokensOfTheHost) {
  const SimulatedClock clock;
  std::vector<StepResult> by_host, by_device;
  const auto host = MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(host->AllocateKv(16, 0).ok());
  EXPECT_EQ(RunAhead(host.get(), SampledScript(), &by_host), 0);
  for (const bool records_decodes : {false, true}) {
    const auto device = MakeExecutor(std::make_unique<SoloCollective>(), &clock,
                                     /*spoil=*/false, records_decodes,
                                     /*chooses_shaped=*/true);
    ASSERT_TRUE(device->AllocateKv(16, 0).ok());
    by_device.clear();
    EXPECT_EQ(RunAhead(device.get(), SampledScript(), &by_device), 8);
    ASSERT_EQ(by_device.size(), by_host.size());
    for (size_t step = 0; step < by_host.size(); ++step) {
      EXPECT_EQ(by_device[step].tokens, by_host[step].tokens) << step;
      ExpectSameLogprobs(by_device[step].logprobs, by_host[step].logprobs);
    }
  }
}

TEST(ExecutorRunAheadTest,
     DevicesOfAGroupChooseAmongThemselvesWhatOneHostChooses) {
  const SimulatedClock clock;
  std::vector<StepResult> by_host;
  const auto host = MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(host->AllocateKv(16, 0).ok());
  RunAhead(host.get(), SampledScript(), &by_host);
  for (const int32_t world : {2, 4}) {
    LocalGroup group(world);
    std::vector<std::vector<StepResult>> by_rank(world);
    std::vector<std::thread> ranks;
    for (int32_t rank = 0; rank < world; ++rank) {
      ranks.emplace_back([&, rank] {
        const auto device = MakeExecutor(
            std::make_unique<Borrowed>(group.collective(rank)), &clock,
            /*spoil=*/false, /*records_decodes=*/true, /*chooses_shaped=*/true);
        ASSERT_TRUE(device->AllocateKv(16, 0).ok());
        EXPECT_EQ(RunAhead(device.get(), SampledScript(), &by_rank[rank]), 8);
      });
    }
    for (std::thread& rank : ranks) rank.join();
    ASSERT_EQ(by_rank[0].size(), by_host.size());
    for (size_t step = 0; step < by_host.size(); ++step) {
      EXPECT_EQ(by_rank[0][step].tokens, by_host[step].tokens) << step;
      ExpectSameLogprobs(by_rank[0][step].logprobs, by_host[step].logprobs);
      for (int32_t rank = 1; rank < world; ++rank) {
        EXPECT_EQ(by_rank[rank][step].token_digest, by_host[step].token_digest);
      }
    }
  }
}

// The most bytes that a rank of two gathers at once for such a sequence.
int64_t MostGathered(const SlotSampling& sampling) {
  const SimulatedClock clock;
  std::vector<StepPlan> plans(4);
  plans[0].admitted = {Admit(0, {1, 2, 3}, {0, 1})};
  plans[0].admitted[0].sampling = sampling;
  plans[0].chunks = {{SlotId(0), 3, true}};
  for (size_t step = 1; step < plans.size(); ++step) {
    plans[step].decodes = {SlotId(0)};
  }
  int64_t bytes[2] = {};
  LocalGroup group(2);
  std::vector<std::thread> ranks;
  for (int32_t rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto device = MakeExecutor(
          std::make_unique<Borrowed>(group.collective(rank), &bytes[rank]),
          &clock, /*spoil=*/false, /*records_decodes=*/false,
          /*chooses_shaped=*/true);
      ASSERT_TRUE(device->AllocateKv(16, 0).ok());
      std::vector<StepResult> results;
      EXPECT_EQ(RunAhead(device.get(), plans, &results), 3);
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_EQ(bytes[0], bytes[1]);
  return bytes[0];
}

TEST(ExecutorRunAheadTest, OfRowsWithAnythingButALargeTopKNoLogitsTravel) {
  SlotSampling plain;
  plain.temperature = 0.9f;
  SlotSampling edited = plain;
  edited.presence_penalty = 1;
  edited.logit_bias = {{7, 1.0f}};
  SlotSampling masked = edited;
  masked.bad_words = {{7}};
  masked.min_tokens = 2;
  masked.stop_token_ids = {3};
  masked.allowed_token_ids = {1, 3, 7, 96};
  for (SlotSampling sampling : {plain, edited, masked}) {
    EXPECT_EQ(MostGathered(sampling), sizeof(ShardChoice));
    sampling.num_logprobs = 20;
    EXPECT_EQ(MostGathered(sampling), LogprobBytes(LogprobStage::kSums, 20));
    sampling.num_logprobs = 0;
    sampling.top_k = 5;
    EXPECT_EQ(MostGathered(sampling), 6 * sizeof(ListedToken));
    sampling.top_k = 0;
    sampling.top_p = 0.5f;
    EXPECT_EQ(MostGathered(sampling), kNucleusBins * sizeof(NucleusBin));
  }
  masked.top_k = kMaxListed + 1;
  EXPECT_EQ(MostGathered(masked), (kVocab + 1) / 2 * sizeof(float));
}

}  // namespace
}  // namespace quire
