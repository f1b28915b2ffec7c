// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/executor.h"

#include <thread>
#include <vector>

#include "common/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/executor/executor_world.h"
#include "worker/collective/local.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

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

TEST(ExecutorTest, PromptsAloneGiveTheSameTokensPadded) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock,
                   /*spoil=*/false, /*records_decodes=*/true);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  StepPlan plan;
  for (int32_t length : {1, 8, 9, 15, 16, 17, 30, 32}) {
    std::vector<TokenId> tokens;
    for (int32_t i = 0; i < length; ++i) tokens.push_back((7 * i) % kVocab);
    plan.admitted = {Admit(0, tokens, {3, 1, 4, 15, 9, 2, 6, 5, 8, 0})};
    plan.chunks = {{SlotId(0), length, true}};
    StepResult result;
    ASSERT_TRUE(executor->Step(plan, &result).ok());
    EXPECT_EQ(result.tokens, Continue(tokens, 1)) << length;
    StepPlan decode;
    decode.decodes = {SlotId(0)};
    ASSERT_TRUE(executor->Step(decode, &result).ok());
    EXPECT_EQ(result.tokens[0], Continue(tokens, 2)[1]) << length;
    plan.released = {SlotId(0)};
  }
}

TEST(ExecutorTest, APromptThatIsScoredIsNotPadded) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock,
                   /*spoil=*/false, /*records_decodes=*/true);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  std::vector<TokenId> tokens;
  for (int32_t i = 0; i < 12; ++i) tokens.push_back(i);
  StepPlan plan;
  plan.admitted = {Admit(0, tokens, {3, 1, 4, 15})};
  plan.admitted[0].sampling.num_prompt_logprobs = 0;
  plan.chunks = {{SlotId(0), 12, true}};
  StepResult result;
  ASSERT_TRUE(executor->Step(plan, &result).ok());
  EXPECT_EQ(result.tokens, Continue(tokens, 1));
  ASSERT_EQ(result.prompt_logprobs.size(), 1);
  EXPECT_EQ(result.prompt_logprobs[0].tokens.size(), 11);
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

TEST(ExecutorTest, RecordingsHaveMemoryThatBlocksDoNotGet) {
  const SimulatedClock clock;
  const auto executor =
      MakeExecutor(std::make_unique<SoloCollective>(), &clock,
                   /*spoil=*/false, /*records_decodes=*/true);
  const auto profile = executor->Profile(0.75);
  ASSERT_TRUE(profile.ok()) << profile.status();
  const int64_t num_recordings = StepRecordings::CountFor(
      Limits().max_num_seqs, Limits().max_num_batched_tokens);
  EXPECT_EQ(profile->kv_bytes,
            (1 << 28) - num_recordings * StepRecordings::kKeptBytes);
  const absl::Status full = executor->Profile(0.501).status();
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_THAT(std::string(full.message()),
              testing::HasSubstr("QUIRE_ENFORCE_EAGER=true"));
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

// As where devices add up by themselves: nothing that was enqueued fails.
class OverGroup final : public Collective {
 public:
  int32_t rank() const override { return 0; }
  int32_t world_size() const override { return 1; }
  absl::Status AllReduceSum(void*, int64_t, DType) override {
    return absl::OkStatus();
  }
  absl::Status AllGather(const void*, void*, int64_t) override {
    return absl::OkStatus();
  }
  absl::Status status() const override {
    return absl::UnavailableError("rank 1 is gone");
  }
  absl::Status Barrier() override { return absl::OkStatus(); }
};

TEST(ExecutorTest, TokensOfAGroupThatIsOverAreNotBelieved) {
  const SimulatedClock clock;
  const auto executor = MakeExecutor(std::make_unique<OverGroup>(), &clock);
  ASSERT_TRUE(executor->AllocateKv(16, 0).ok());
  StepPlan plan;
  plan.admitted = {Admit(0, {1}, {0})};
  plan.chunks = {{SlotId(0), 1, true}};
  ASSERT_TRUE(executor->Begin(plan).ok());
  StepResult result;
  EXPECT_EQ(executor->Finish(&result).message(), "rank 1 is gone");
}

}  // namespace
}  // namespace quire
