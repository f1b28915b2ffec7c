// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/best_of.h"

#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

constexpr int32_t kNumSequences = 3;

class BestOfTest : public testing::Test {
 protected:
  BestOfTest() {
    group_.key = RequestKey(7);
    group_.num_cached_tokens = 5;
    group_.sampling.n = 2;
    group_.sampling.best_of = kNumSequences;
    group_.sequences.resize(kNumSequences);
    for (int32_t index = 0; index < kNumSequences; ++index) {
      Sequence& seq = group_.sequences[index];
      seq.group = &group_;
      seq.index = index;
      seq.tokens = {100};  // the prompt
      seq.num_prompt_tokens = 1;
    }
  }

  void Say(int32_t index, TokenId token, float logprob,
           FinishReason reason = FinishReason::kNone) {
    Sequence& seq = group_.sequences[index];
    seq.tokens.push_back(token);
    SequenceOutput output;
    output.tokens.push_back(token);
    output.logprobs.emplace_back().logprob = logprob;
    output.finish_reason = reason;
    Hold(std::move(output), &seq);
  }

  SequenceGroup group_;
};

TEST_F(BestOfTest, OnlyASampleWiderThanTheAnswerIsWithheld) {
  WithholdUnlessAllReturned(&group_);
  EXPECT_TRUE(group_.sequences[2].withheld);
  for (Sequence& seq : group_.sequences) seq.withheld = false;
  group_.sampling.n = kNumSequences;
  WithholdUnlessAllReturned(&group_);
  EXPECT_FALSE(group_.sequences[0].withheld);
  // Beams rank themselves.
  group_.sampling.n = 1;
  group_.sampling.beam_width = kNumSequences;
  WithholdUnlessAllReturned(&group_);
  EXPECT_FALSE(group_.sequences[0].withheld);
}

TEST_F(BestOfTest, TheLikeliestComeBestFirstAndOfEqualOnesTheEarlier) {
  WithholdUnlessAllReturned(&group_);
  Say(0, 10, -2);
  Say(1, 11, -0.5);
  Say(1, 12, -0.5, FinishReason::kLength);
  Say(2, 13, -1, FinishReason::kStop);
  Say(0, 14, -2, FinishReason::kStop);
  std::vector<SequenceOutput> outputs;
  ReleaseBest(&group_, &outputs);
  ASSERT_EQ(outputs.size(), 2);
  EXPECT_EQ(outputs[0].index, 0);
  EXPECT_EQ(
      std::vector<TokenId>(outputs[0].tokens.begin(), outputs[0].tokens.end()),
      (std::vector<TokenId>{11, 12}));
  EXPECT_EQ(outputs[0].finish_reason, FinishReason::kLength);
  EXPECT_EQ(outputs[1].index, 1);
  EXPECT_EQ(outputs[1].tokens[0], 13);
  EXPECT_EQ(outputs[1].finish_reason, FinishReason::kStop);
  EXPECT_EQ(outputs[0].num_cached_tokens, 5);
  EXPECT_EQ(outputs[0].request, RequestKey(7));
}

TEST_F(BestOfTest, ProbabilitiesAreToldOnlyIfTheyWereAskedFor) {
  for (const int32_t num_logprobs : {-1, 0}) {
    group_.sampling.slot.num_logprobs = num_logprobs;
    WithholdUnlessAllReturned(&group_);
    group_.held.assign(kNumSequences, {});
    for (int32_t index = 0; index < kNumSequences; ++index) {
      Say(index, 10, -1);
      Say(index, 11, -1, FinishReason::kLength);
    }
    std::vector<SequenceOutput> outputs;
    ReleaseBest(&group_, &outputs);
    ASSERT_EQ(outputs[0].logprobs.size(), num_logprobs < 0 ? 0 : 2);
    if (num_logprobs >= 0) {
      EXPECT_EQ(outputs[0].logprobs[1].sample_idx, 1);
    }
  }
}

}  // namespace
}  // namespace quire
