// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/executor.h"

#include <algorithm>
#include <functional>
#include <thread>
#include <vector>

#include "common/digest.h"
#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/collective/local.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 97;
constexpr int32_t kBlockSize = 4;

StepLimits Limits() {
  StepLimits limits;
  limits.max_num_batched_tokens = 32;
  limits.max_num_seqs = 4;
  limits.max_model_len = 40;
  return limits;
}

// A collective that lives in a LocalGroup.
class Borrowed final : public Collective {
 public:
  explicit Borrowed(Collective* real) : real_(real) {}
  int32_t rank() const override { return real_->rank(); }
  int32_t world_size() const override { return real_->world_size(); }
  absl::Status AllReduceSum(void* data, int64_t n, DType dtype) override {
    return real_->AllReduceSum(data, n, dtype);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes) override {
    return real_->AllGather(in, out, bytes);
  }
  absl::Status Barrier() override { return real_->Barrier(); }

 private:
  Collective* const real_;
};

std::unique_ptr<Executor> MakeExecutor(std::unique_ptr<Collective> collective,
                                       const Clock* clock, bool spoil = false,
                                       bool records_decodes = false,
                                       bool chooses_shaped = false) {
  ExecutorParts parts;
  auto backend = std::make_unique<FakeBackend>();
  backend->set_asynchronous();
  if (chooses_shaped) backend->set_chooses_shaped();
  parts.device_sampling = chooses_shaped;
  parts.backend = std::move(backend);
  parts.records_decodes = records_decodes;
  parts.collective = std::move(collective);
  auto model =
      std::make_unique<FakeModel>(parts.collective.get(), kVocab, Limits());
  if (spoil) model->Spoil();
  parts.model = std::move(model);
  parts.limits = Limits();
  parts.block_size = kBlockSize;
  parts.vocab_size = kVocab;
  auto executor = Executor::Create(std::move(parts), clock);
  EXPECT_TRUE(executor.ok()) << executor.status();
  return *std::move(executor);
}

// Greedy tokens straight from the model's definition.
std::vector<TokenId> Continue(std::vector<TokenId> tokens, int32_t n) {
  std::vector<TokenId> out;
  for (int32_t i = 0; i < n; ++i) {
    const auto logits = FakeModel::LogitsAfter(tokens, kVocab);
    const auto best = std::max_element(logits.begin(), logits.end());
    out.push_back(static_cast<TokenId>(best - logits.begin()));
    tokens.push_back(out.back());
  }
  return out;
}

AdmittedSlot Admit(int32_t slot, std::vector<TokenId> tokens,
                   std::vector<int32_t> blocks, int32_t num_computed = 0) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(slot);
  admitted.num_prompt_tokens = static_cast<int32_t>(tokens.size());
  admitted.tokens = std::move(tokens);
  admitted.num_computed_tokens = num_computed;
  admitted.sampling.temperature = 0;
  std::vector<BlockId> ids;
  for (int32_t block : blocks) ids.push_back(BlockId(block));
  admitted.cache = ids;
  return admitted;
}

// A run of plans: two prompts, one in chunks, decodes across block borders, a
// swap out and in to other blocks, a fork with copy-on-write, a resync.
std::vector<StepPlan> Script() {
  std::vector<StepPlan> plans(9);
  plans[0].admitted = {Admit(0, {1, 2, 3, 4, 5, 6, 7}, {9, 4}),
                       Admit(2, {50, 51}, {7})};
  plans[0].chunks = {{SlotId(0), 3, false}, {SlotId(2), 2, true}};
  plans[1].decodes = {SlotId(2)};
  plans[1].chunks = {{SlotId(0), 4, true}};
  plans[2].decodes = {SlotId(0), SlotId(2)};
  plans[3].appended = {{SlotId(0), BlockId(11)}, {SlotId(2), BlockId(1)}};
  plans[3].decodes = {SlotId(2), SlotId(0)};
  // Blocks 9 and 4 of slot 0 go out and come back as 2 and 3.
  plans[4].swap_outs = {{BlockId(9), HostBlockId(1)},
                        {BlockId(4), HostBlockId(0)}};
  plans[4].swap_ins = {{BlockId(2), HostBlockId(1)},
                       {BlockId(3), HostBlockId(0)}};
  plans[4].replaced = {{SlotId(0), 0, BlockId(2)}, {SlotId(0), 1, BlockId(3)}};
  plans[4].decodes = {SlotId(0)};
  // Slot 1 forks from slot 0 after its prompt and first output: 8 tokens, 7
  // computed, so its last block is shared until it is copied.
  plans[5].forks = {{SlotId(0), SlotId(1), SequenceId(9), 0, 8}};
  plans[5].replaced = {{SlotId(1), 1, BlockId(12)}};
  plans[5].copies = {{BlockId(3), BlockId(12)}};
  plans[5].decodes = {SlotId(0), SlotId(1)};
  plans[6].released = {SlotId(2)};
  plans[6].appended = {{SlotId(1), BlockId(13)}};
  plans[6].decodes = {SlotId(1), SlotId(0)};
  // A fresh start for slot 3, with the tokens that slot 0 has so far.
  std::vector<TokenId> so_far = {1, 2, 3, 4, 5, 6, 7};
  for (TokenId token : Continue(so_far, 6)) so_far.push_back(token);
  plans[7].resync = true;
  plans[7].admitted = {Admit(3, so_far, {5, 6, 8, 10})};
  plans[7].chunks = {{SlotId(3), 13, true}};
  plans[8].decodes = {SlotId(3)};
  for (size_t i = 0; i < plans.size(); ++i) {
    plans[i].identity = {Epoch(1), Epoch(2), StepId(i + 1)};
  }
  return plans;
}

std::vector<std::vector<TokenId>> ExpectedTokens() {
  const auto a = Continue({1, 2, 3, 4, 5, 6, 7}, 8);
  const auto b = Continue({50, 51}, 4);
  return {{b[0]},       {b[1], a[0]}, {a[1], b[2]}, {b[3], a[2]}, {a[3]},
          {a[4], a[1]}, {a[2], a[5]}, {a[6]},       {a[7]}};
}

// Runs the script on `world` ranks; checks each result as it comes.
void RunScript(int32_t world, bool records_decodes = false) {
  LocalGroup group(world);
  const SimulatedClock clock;
  std::vector<std::vector<StepResult>> results(world);
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      const auto executor = MakeExecutor(
          std::make_unique<Borrowed>(group.collective(rank)), &clock,
          /*spoil=*/false, records_decodes);
      ASSERT_TRUE(executor->AllocateKv(16, 4).ok());
      for (const StepPlan& plan : Script()) {
        StepResult result;
        const absl::Status status = executor->Step(plan, &result);
        ASSERT_TRUE(status.ok()) << status;
        results[rank].push_back(result);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto expected = ExpectedTokens();
  for (size_t step = 0; step < expected.size(); ++step) {
    EXPECT_EQ(results[0][step].tokens, expected[step]) << "step " << step + 1;
    for (int32_t rank = 0; rank < world; ++rank) {
      const StepResult& result = results[rank][step];
      EXPECT_EQ(result.identity.step_id.value(), step + 1);
      EXPECT_EQ(result.token_digest, TokenDigest(expected[step]));
      EXPECT_EQ(result.table_digest, results[0][step].table_digest);
      EXPECT_EQ(result.tokens.empty(), rank > 0);
    }
  }
}

TEST(ExecutorTest, EveryWayThroughTheCacheGivesTheModelsOwnTokens) {
  RunScript(1);
}

TEST(ExecutorTest, RanksAgreeAndOnlyTheFirstReportsTokens) {
  RunScript(2);
  RunScript(3);
}

TEST(ExecutorTest, PaddedRecordingsGiveTheSameTokens) {
  RunScript(1, /*records_decodes=*/true);
  RunScript(2, /*records_decodes=*/true);
}

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

TEST(ExecutorTest, AStepMayBeginBeforeTheTokensOfTheLastAreKnown) {
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

TEST(ExecutorTest, ASeatGivenAwayKeepsNoTokenOfItsLastHolder) {
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

TEST(ExecutorTest, WhatTheHostChoosesWaitsForTheTokensBefore) {
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
  plans[0].admitted[1].sampling.top_p = 0.7f;
  plans[0].admitted[1].sampling.frequency_penalty = 0.5f;
  plans[0].admitted[2].sampling.top_k = 7;
  plans[0].admitted[2].sampling.num_logprobs = 0;
  plans[0].admitted[2].sampling.min_tokens = 4;
  for (TokenId id = 0; id < kVocab; id += 2) {
    plans[0].admitted[2].sampling.stop_token_ids.push_back(id);
  }
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
  plans[5].chunks = {{SlotId(0), 3, true}};
  return plans;
}

TEST(ExecutorTest, WhatTheDeviceChoosesNeedsNoTokensOfTheHost) {
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
      ASSERT_EQ(by_device[step].logprobs.size(), by_host[step].logprobs.size());
      for (size_t i = 0; i < by_host[step].logprobs.size(); ++i) {
        const SampledLogprobs& a = by_device[step].logprobs[i];
        const SampledLogprobs& b = by_host[step].logprobs[i];
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
  }
}

TEST(ExecutorTest, DevicesOfAGroupChooseAmongThemselvesWhatOneHostChooses) {
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
      EXPECT_EQ(by_rank[0][step].logprobs.size(),
                by_host[step].logprobs.size());
      for (int32_t rank = 1; rank < world; ++rank) {
        EXPECT_EQ(by_rank[rank][step].token_digest, by_host[step].token_digest);
      }
    }
  }
}

TEST(ExecutorTest, AWrongCopyWouldShow) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(executor->AllocateKv(16, 4).ok());
  std::vector<StepPlan> plans = Script();
  plans[5].copies.clear();  // the child's block holds nothing
  std::vector<std::vector<TokenId>> tokens;
  for (const StepPlan& plan : plans) {
    StepResult result;
    ASSERT_TRUE(executor->Step(plan, &result).ok());
    tokens.push_back(result.tokens);
  }
  EXPECT_EQ(tokens[5][0], ExpectedTokens()[5][0]);  // the parent's
  EXPECT_NE(tokens[5][1], ExpectedTokens()[5][1]);  // the child's
}

TEST(ExecutorTest, ReportsLogprobsOfThoseWhoAsked) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  StepPlan plan;
  plan.admitted = {Admit(0, {1}, {0}), Admit(1, {2}, {1})};
  plan.admitted[1].sampling.num_logprobs = 2;
  plan.chunks = {{SlotId(0), 1, true}, {SlotId(1), 1, true}};
  StepResult result;
  ASSERT_TRUE(executor->Step(plan, &result).ok());
  ASSERT_EQ(result.logprobs.size(), 1);
  EXPECT_EQ(result.logprobs[0].sample_idx, 1);
  EXPECT_EQ(result.logprobs[0].rank, 1);  // greedy
  ASSERT_EQ(result.logprobs[0].top.size(), 2);
  EXPECT_EQ(result.logprobs[0].top[0].token_id, result.tokens[1]);
}

TEST(ExecutorTest, AnEmptyPlanReportsTheTablesAlone) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  StepPlan plan;
  plan.admitted = {Admit(0, {1}, {3})};
  StepResult result;
  result.tokens = {9};
  ASSERT_TRUE(executor->Step(plan, &result).ok());
  EXPECT_TRUE(result.tokens.empty());
  TableDigest digest;
  digest.Toggle(SlotId(0), 0, 3);
  EXPECT_EQ(result.table_digest, digest.value());
}

TEST(ExecutorTest, ProfilesAndThenAllocatesOnce) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  const auto profile = executor->Profile(0.75);
  ASSERT_TRUE(profile.ok()) << profile.status();
  // The fake device has 1 GiB, half of it free.
  EXPECT_EQ(profile->kv_bytes, (1 << 28));
  EXPECT_EQ(profile->block_bytes, 2 * kBlockSize * 4);
  EXPECT_EQ(profile->weight_bytes, 1000);
  EXPECT_EQ(profile->activation_bytes, 2000);
  EXPECT_TRUE(absl::IsInvalidArgument(executor->AllocateKv(0, 0)));
  EXPECT_TRUE(absl::IsResourceExhausted(executor->AllocateKv(1 << 30, 0)));
  EXPECT_TRUE(executor->AllocateKv(16, 0).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(executor->AllocateKv(16, 0)));
}

TEST(ExecutorTest, ContradictionsBadLogitsAndLostPeersAreToldApart) {
  const SimulatedClock clock;
  StepResult result;
  StepPlan plan;
  plan.decodes = {SlotId(1)};
  const auto sane = MakeExecutor(std::make_unique<SoloCollective>(), &clock);
  ASSERT_TRUE(sane->AllocateKv(16, 0).ok());
  EXPECT_EQ(sane->Step(plan, &result).message(), "slot 1: holds no sequence");

  StepPlan good;
  good.admitted = {Admit(0, {1}, {0})};
  good.chunks = {{SlotId(0), 1, true}};
  const auto spoilt =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock, /*spoil=*/true);
  ASSERT_TRUE(spoilt->AllocateKv(16, 0).ok());
  const absl::Status bad = spoilt->Step(good, &result);
  EXPECT_TRUE(absl::IsInternal(bad));
  EXPECT_EQ(bad.message(), "slot 0: the logits hold NaN or infinity");

  LocalGroup group(1);
  const auto alone =
      MakeExecutor(std::make_unique<Borrowed>(group.collective(0)), &clock);
  ASSERT_TRUE(alone->AllocateKv(16, 0).ok());
  group.Break();
  EXPECT_TRUE(absl::IsUnavailable(alone->Step(good, &result)));
}

}  // namespace
}  // namespace quire
