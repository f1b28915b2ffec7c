// SPDX-License-Identifier: Apache-2.0
//
// Steps of slots whose prompts are scored or whose tokens have rules.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/collective/solo.h"
#include "worker/executor/executor.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 97;
constexpr int32_t kBlockSize = 4;

class ExecutorRulesTest : public testing::Test {
 protected:
  ExecutorRulesTest() {
    StepLimits limits;
    limits.max_num_batched_tokens = 32;
    limits.max_num_seqs = 3;  // fewer rows than prompt tokens
    limits.max_model_len = 40;
    ExecutorParts parts;
    auto backend = std::make_unique<FakeBackend>();
    backend->set_asynchronous();
    parts.backend = std::move(backend);
    parts.collective = std::make_unique<SoloCollective>();
    parts.model =
        std::make_unique<FakeModel>(parts.collective.get(), kVocab, limits);
    parts.limits = limits;
    parts.block_size = kBlockSize;
    parts.vocab_size = kVocab;
    auto executor = Executor::Create(std::move(parts), &clock_);
    EXPECT_TRUE(executor.ok()) << executor.status();
    executor_ = *std::move(executor);
    EXPECT_TRUE(executor_->AllocateKv(/*num_blocks=*/16, 0).ok());
  }

  static AdmittedSlot Admit(int32_t slot, const std::vector<TokenId>& tokens,
                            std::vector<int32_t> blocks) {
    AdmittedSlot admitted;
    admitted.slot = SlotId(slot);
    admitted.sequence_id = SequenceId(100 + slot);
    admitted.tokens = tokens;
    admitted.num_prompt_tokens = static_cast<int32_t>(tokens.size());
    admitted.sampling.temperature = 0;
    std::vector<BlockId> ids;
    for (int32_t block : blocks) ids.push_back(BlockId(block));
    admitted.cache = ids;
    return admitted;
  }

  StepResult MustStep(const StepPlan& plan) {
    StepResult result;
    const absl::Status status = executor_->Step(plan, &result);
    EXPECT_TRUE(status.ok()) << status;
    return result;
  }

  // The likeliest of the tokens that may follow.
  template <typename IsAllowed>
  static TokenId Best(const std::vector<TokenId>& tokens, IsAllowed allowed) {
    const auto logits = FakeModel::LogitsAfter(tokens, kVocab);
    TokenId best = -1;
    for (TokenId id = 0; id < kVocab; ++id) {
      if (allowed(id) && (best < 0 || logits[id] > logits[best])) best = id;
    }
    return best;
  }

  RealClock clock_;
  std::unique_ptr<Executor> executor_;
};

void ExpectScores(const std::vector<TokenId>& tokens,
                  const PromptLogprobs& prompt, int32_t first, int32_t count) {
  EXPECT_EQ(prompt.first_token, first);
  ASSERT_EQ(prompt.tokens.size(), count);
  for (int32_t i = 0; i < count; ++i) {
    const std::vector<TokenId> before(tokens.begin(),
                                      tokens.begin() + first + i);
    const auto logits = FakeModel::LogitsAfter(before, kVocab);
    double sum = 0;
    for (float logit : logits) sum += std::exp(double{logit});
    const float own = logits[tokens[first + i]];
    const SampledLogprobs& score = prompt.tokens[i];
    EXPECT_EQ(score.sample_idx, i);
    // A sum of 97 floats errs by less than 1e-6 of its value.
    EXPECT_NEAR(score.logprob, own - std::log(sum), 4e-6);
    EXPECT_EQ(score.rank,
              1 + std::count_if(logits.begin(), logits.end(),
                                [own](float x) { return x > own; }));
    EXPECT_EQ(score.top.size(), 2);
  }
}

TEST_F(ExecutorRulesTest, PromptsAreScoredWhileOthersDecode) {
  const std::vector<TokenId> scored = {5, 9, 2, 40, 41, 42, 3, 8, 90, 91};
  StepPlan plan;
  plan.admitted = {Admit(0, scored, {0, 1, 2, 3}), Admit(1, {7, 7}, {4})};
  plan.admitted[0].sampling.num_prompt_logprobs = 2;
  plan.chunks = {{SlotId(0), 4, false}, {SlotId(1), 2, true}};
  StepResult result = MustStep(plan);
  ASSERT_EQ(result.prompt_logprobs.size(), 1);
  EXPECT_EQ(result.prompt_logprobs[0].sequence_id, SequenceId(100));
  ExpectScores(scored, result.prompt_logprobs[0], 1, 4);
  std::vector<TokenId> other = {7, 7, result.tokens[0]};

  plan = StepPlan();
  plan.decodes = {SlotId(1)};
  plan.chunks = {{SlotId(0), 6, true}};
  result = MustStep(plan);
  ASSERT_EQ(result.prompt_logprobs.size(), 1);
  ExpectScores(scored, result.prompt_logprobs[0], 5, 5);
  const auto all = [](TokenId) { return true; };
  ASSERT_EQ(result.tokens.size(), 2);
  EXPECT_EQ(result.tokens[0], Best(other, all));  // what is sampled is itself
  EXPECT_EQ(result.tokens[1], Best(scored, all));

  plan = StepPlan();  // from here on there is nothing to score
  plan.decodes = {SlotId(0)};
  EXPECT_TRUE(executor_->MayBegin(plan));
  EXPECT_TRUE(MustStep(plan).prompt_logprobs.empty());
}

TEST_F(ExecutorRulesTest, AMaskHoldsForItsStep) {
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2}, {0, 1})};
  plan.admitted[0].sampling.needs_mask = true;
  plan.masks = {{SlotId(0), {0x00ff0000u, 1u}}};
  plan.chunks = {{SlotId(0), 2, true}};
  const TokenId first = MustStep(plan).tokens[0];
  EXPECT_EQ(first, Best({1, 2}, [](TokenId id) {
              return (id >= 16 && id < 24) || id == 32;
            }));
  plan = StepPlan();
  plan.masks = {{SlotId(0), {1u << 5}}};
  plan.decodes = {SlotId(0)};
  EXPECT_EQ(MustStep(plan).tokens[0], 5);
  plan.masks.clear();
  StepResult result;
  EXPECT_EQ(executor_->Step(plan, &result).message(),
            "slot 0: samples token 4 without a mask");
}

TEST_F(ExecutorRulesTest, AMaskForWhoNeedsNoneIsAContradiction) {
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2}, {0})};
  plan.masks = {{SlotId(0), {~0u}}};
  plan.chunks = {{SlotId(0), 2, true}};
  StepResult result;
  EXPECT_EQ(executor_->Step(plan, &result).message(),
            "slot 0: is given a mask and needs none");
}

TEST_F(ExecutorRulesTest, RulesOfASlotHoldForItsForks) {
  StepPlan plan;
  plan.admitted = {Admit(0, {1, 2}, {0, 1})};
  SlotSampling& sampling = plan.admitted[0].sampling;
  sampling.allowed_token_ids = {3, 4, 64, 96};
  sampling.bad_words = {{96}, {64, 64}};
  sampling.logit_bias = {{3, -100}, {4, -100}};
  plan.chunks = {{SlotId(0), 2, true}};
  EXPECT_EQ(MustStep(plan).tokens[0], 64);
  plan = StepPlan();
  plan.forks = {{SlotId(0), SlotId(1), SequenceId(7), 0, 3}};
  plan.decodes = {SlotId(1)};
  const TokenId next = MustStep(plan).tokens[0];
  EXPECT_EQ(next, Best({1, 2, 64}, [](TokenId id) {
              return id == 3 || id == 4;  // 64 would be twice
            }));
}

}  // namespace
}  // namespace quire
