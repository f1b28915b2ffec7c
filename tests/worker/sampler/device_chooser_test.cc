// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/device_chooser.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "worker/collective/solo.h"
#include "worker/sampler/plain_row.h"
#include "worker/sampler/sampler.h"
#include "worker/sampler/seen_counts.h"

namespace quire {
namespace {

constexpr int32_t kVocab = 701;
constexpr int32_t kRows = 60;

SlotLimits Limits() {
  SlotLimits limits;
  limits.max_num_seqs = kRows;
  limits.max_model_len = 64;
  limits.block_size = 64;
  limits.num_blocks = kRows;
  limits.vocab_size = kVocab;
  return limits;
}

// Of every kind of sampling.
AdmittedSlot MakeSequence(int32_t i, std::mt19937_64* random) {
  AdmittedSlot admitted;
  admitted.slot = SlotId(i);
  admitted.tokens = {3, 4, 5, 10 + i, 4};
  admitted.num_prompt_tokens = 3;
  admitted.num_computed_tokens = 4;
  admitted.cache = std::vector<BlockId>{BlockId(i)};
  SlotSampling& sampling = admitted.sampling;
  sampling.seed = (*random)();
  sampling.temperature = (i % 4) * 0.5f;
  if (i % 3 == 0) sampling.top_p = 0.9f;
  if (i % 5 == 0 || i % 24 == 5) sampling.top_k = 1 + 40 * (i % 7);
  if (i % 7 == 0) sampling.min_p = 0.02f;
  if (i % 24 == 17) sampling.top_p = 0.6f;
  if (i % 6 == 1) sampling.repetition_penalty = 1.3f;
  if (i % 6 == 2) sampling.frequency_penalty = 0.7f;
  if (i % 6 == 3) sampling.presence_penalty = -0.4f;
  if (i % 8 == 3) {
    sampling.min_tokens = 6;
    sampling.stop_token_ids = {1, 2, 700, 1};
  }
  if (i % 9 == 4) sampling.logit_bias = {{2, 3.0f}, {5, -50.0f}};
  if (i % 9 == 5) sampling.bad_words = {{700}, {4}, {11}};
  if (i % 9 == 6) {
    for (TokenId id = i; id < kVocab; id += 3) {
      sampling.allowed_token_ids.push_back(id);
    }
  }
  // Masked whole: masks are passed over then.
  if (i == 42) {
    sampling.allowed_token_ids = {1, 2};
    sampling.bad_words = {{1}, {2}};
  }
  sampling.num_logprobs = i % 2 == 0 ? i % 20 : -1;
  return admitted;
}

std::vector<float> MakeLogits(std::mt19937_64* random) {
  std::vector<float> logits(int64_t{kRows} * kVocab);
  for (int32_t row = 0; row < kRows; ++row) {
    std::normal_distribution<float> normal(0, row % 4 == 1 ? 0.3f : 4.f);
    for (int32_t id = 0; id < kVocab; ++id) {
      logits[row * kVocab + id] = normal(*random);
    }
  }
  return logits;
}

class DeviceChooserTest : public testing::Test {
 protected:
  DeviceChooserTest() : states_(Limits()) {
    backend_.set_chooses_shaped();
    seen_ = *SeenCounts::Create(&backend_, kVocab, kRows, 64);
    chooser_ = *DeviceChooser::Create(&backend_, kVocab, kRows, seen_.get(),
                                      /*is_group=*/false);
    sampler_ = *Sampler::Create(&backend_, &solo_, {0, kVocab}, kRows);
    for (int32_t i = 0; i < kRows; ++i) {
      plan_.admitted.push_back(MakeSequence(i, &random_));
      plan_.decodes.push_back(SlotId(i));
    }
    EXPECT_TRUE(states_.Apply(plan_).ok());
    plan_.admitted.clear();
  }

  // What the host chooses of the same rows.
  SampledTokens ByHost(const std::vector<float>& logits) {
    SampledTokens sampled;
    const absl::Status status =
        sampler_->Sample(logits.data(), plan_.decodes, states_, &sampled);
    EXPECT_TRUE(status.ok()) << status;
    return sampled;
  }

  // Plain rows' tokens are those given.
  SampledTokens ByDevice(std::vector<float> logits, std::vector<TokenId> tokens,
                         int32_t flight) {
    std::vector<int32_t> by_slot(kRows, -5);
    for (int32_t i = 0; i < kRows; ++i) {
      if (!IsPlainRow(states_.slot(SlotId(i)))) tokens[i] = -5;
    }
    EXPECT_TRUE(seen_->Send(plan_.decodes, states_, flight).ok());
    const absl::Status status =
        chooser_->Enqueue(logits.data(), plan_.decodes, states_, flight,
                          tokens.data(), by_slot.data());
    EXPECT_TRUE(status.ok()) << status;
    SampledTokens sampled;
    sampled.tokens = tokens;
    chooser_->ReadLogprobs(flight, &sampled.logprobs);
    return sampled;
  }

  std::mt19937_64 random_{11};
  FakeBackend backend_;
  SoloCollective solo_;
  SlotStates states_;
  StepPlan plan_;
  std::unique_ptr<SeenCounts> seen_;
  std::unique_ptr<DeviceChooser> chooser_;
  std::unique_ptr<Sampler> sampler_;
};

TEST_F(DeviceChooserTest, ChoosesAsTheHostDoesStepAfterStep) {
  for (int step = 0; step < 12; ++step) {
    const std::vector<float> logits = MakeLogits(&random_);
    const SampledTokens want = ByHost(logits);
    const SampledTokens got = ByDevice(logits, want.tokens, step % 2);
    EXPECT_EQ(got.tokens, want.tokens) << "step " << step;
    ASSERT_EQ(got.logprobs.size(), want.logprobs.size());
    for (size_t i = 0; i < got.logprobs.size(); ++i) {
      EXPECT_EQ(got.logprobs[i].sample_idx, want.logprobs[i].sample_idx);
      EXPECT_EQ(got.logprobs[i].rank, want.logprobs[i].rank);
      // Sums of 701 floats in one.
      EXPECT_NEAR(got.logprobs[i].logprob, want.logprobs[i].logprob, 2e-5);
      ASSERT_EQ(got.logprobs[i].top.size(), want.logprobs[i].top.size());
      for (size_t j = 0; j < got.logprobs[i].top.size(); ++j) {
        EXPECT_EQ(got.logprobs[i].top[j].token_id,
                  want.logprobs[i].top[j].token_id);
      }
    }
    states_.Commit(plan_, want.tokens);
  }
}

TEST_F(DeviceChooserTest, CountsWhatItChoseBeforeTheHostKnows) {
  const std::vector<float> first = MakeLogits(&random_);
  const std::vector<float> second = MakeLogits(&random_);
  const SampledTokens got_first = ByDevice(first, ByHost(first).tokens, 0);
  // The host has places for tokens that it does not know.
  std::vector<UnknownToken> unknown;
  states_.Advance(plan_, &unknown);
  std::vector<int32_t> plain(kRows, 0);
  const SampledTokens got_second = ByDevice(second, plain, 1);
  states_.Fill(unknown, got_first.tokens);
  const SampledTokens want_second = ByHost(second);
  int num_penalised = 0;
  for (int32_t i = 0; i < kRows; ++i) {
    const Slot& slot = states_.slot(SlotId(i));
    if (IsPlainRow(slot)) continue;
    EXPECT_EQ(got_second.tokens[i], want_second.tokens[i]) << "row " << i;
    num_penalised += TokenCounts::IsNeeded(slot.sampling);
  }
  EXPECT_GT(num_penalised, 20);
}

TEST(DeviceChooserRulesTest, WordsOfSeveralTokensAreTheHosts) {
  SlotSampling sampling;
  sampling.bad_words = {{5}, {9}};
  EXPECT_TRUE(DeviceChooser::CanChoose(sampling));
  sampling.bad_words.push_back({5, 6});
  EXPECT_FALSE(DeviceChooser::CanChoose(sampling));
}

TEST_F(DeviceChooserTest, LeavesRowsThatRanksChooseFromAmongThemselves) {
  const auto chooser =
      *DeviceChooser::Create(&backend_, kVocab, kRows, seen_.get(),
                             /*is_group=*/true);
  ASSERT_TRUE(seen_->Send(plan_.decodes, states_, /*flight=*/0).ok());
  std::vector<float> logits = MakeLogits(&random_);
  const SampledTokens want = ByHost(logits);
  std::vector<TokenId> tokens(kRows, -5);
  std::vector<int32_t> by_slot(kRows, -5);
  const absl::Status status =
      chooser->Enqueue(logits.data(), plan_.decodes, states_, /*flight=*/0,
                       tokens.data(), by_slot.data());
  ASSERT_TRUE(status.ok()) << status;
  int num_listed = 0, num_nuclei = 0, num_edited = 0;
  for (int32_t i = 0; i < kRows; ++i) {
    const Slot& slot = states_.slot(SlotId(i));
    if (IsPlainRow(slot)) continue;
    EXPECT_TRUE(chooser_->Reads(slot));
    const bool is_left =
        IsListedRow(slot) || IsNucleusRow(slot) || IsEditedRow(slot);
    EXPECT_EQ(chooser->Reads(slot), !is_left);
    EXPECT_EQ(tokens[i], is_left ? -5 : want.tokens[i]) << i;
    num_listed += IsListedRow(slot);
    num_nuclei += IsNucleusRow(slot);
    num_edited += IsEditedRow(slot);
  }
  EXPECT_GT(num_listed, 0);
  EXPECT_GT(num_nuclei, 0);
  EXPECT_GT(num_edited, 0);
}

TEST_F(DeviceChooserTest, ForgetsWhatWasChosenElsewhere) {
  const std::vector<float> logits = MakeLogits(&random_);
  const SampledTokens first = ByHost(logits);
  ByDevice(logits, first.tokens, 0);
  states_.Commit(plan_, first.tokens);
  // A step of which the device hears nothing.
  const SampledTokens second = ByHost(logits);
  states_.Commit(plan_, second.tokens);
  seen_->Forget(plan_.decodes);
  const SampledTokens want = ByHost(logits);
  EXPECT_EQ(ByDevice(logits, want.tokens, 1).tokens, want.tokens);
}

TEST_F(DeviceChooserTest, ANewSequenceOfASlotIsCountedAnew) {
  const std::vector<float> logits = MakeLogits(&random_);
  const SampledTokens first = ByHost(logits);
  ByDevice(logits, first.tokens, 0);
  states_.Commit(plan_, first.tokens);
  StepPlan swap;
  for (int32_t i = 0; i < kRows; ++i) {
    swap.released.push_back(SlotId(i));
    AdmittedSlot other = MakeSequence(kRows - 1 - i, &random_);
    other.slot = SlotId(i);
    other.tokens = {9, 9, 8, 7, 6, 9};
    other.num_computed_tokens = 5;
    swap.admitted.push_back(other);
  }
  ASSERT_TRUE(states_.Apply(swap).ok());
  const SampledTokens want = ByHost(logits);
  EXPECT_EQ(ByDevice(logits, want.tokens, 1).tokens, want.tokens);
}

}  // namespace
}  // namespace quire
