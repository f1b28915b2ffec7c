// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/output_processor.h"

#include <vector>

#include "absl/container/inlined_vector.h"
#include "coordinator/engine/sequence.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

class OutputProcessorTest : public testing::Test {
 protected:
  OutputProcessorTest() {
    seq_.request = RequestKey(7);
    seq_.tokens = {1, 2, 3};
    seq_.num_prompt_tokens = 3;
    seq_.max_num_tokens = 6;
    seq_.stop_token_ids = {10, 20};
  }

  // The news of one token.
  SequenceOutput Accept(TokenId token, SampledLogprobs* logprobs = nullptr) {
    outputs_.clear();
    AcceptToken(token, logprobs, &seq_, &outputs_);
    EXPECT_EQ(outputs_.size(), 1);
    return outputs_.back();
  }

  Sequence seq_;
  std::vector<SequenceOutput> outputs_;
};

TEST_F(OutputProcessorTest, OffsetsCountOutputTokens) {
  const SequenceOutput first = Accept(4);
  EXPECT_EQ(first.request, RequestKey(7));
  EXPECT_EQ(first.token_offset, 0);
  EXPECT_EQ(first.tokens, (absl::InlinedVector<TokenId, 4>{4}));
  EXPECT_EQ(first.finish_reason, FinishReason::kNone);
  EXPECT_EQ(Accept(5).token_offset, 1);
  EXPECT_EQ(seq_.tokens, (std::vector<TokenId>{1, 2, 3, 4, 5}));
}

TEST_F(OutputProcessorTest, AStopTokenIsTheLastOfTheOutput) {
  const SequenceOutput output = Accept(20);
  EXPECT_EQ(output.finish_reason, FinishReason::kStop);
  EXPECT_EQ(output.stop_token_id, 20);
  EXPECT_EQ(output.tokens, (absl::InlinedVector<TokenId, 4>{20}));
  EXPECT_TRUE(seq_.finished);
}

TEST_F(OutputProcessorTest, TheLastTokenAllowedEndsItByLength) {
  Accept(4);
  Accept(5);
  EXPECT_FALSE(seq_.finished);
  const SequenceOutput output = Accept(6);
  EXPECT_EQ(output.finish_reason, FinishReason::kLength);
  EXPECT_EQ(output.stop_token_id, -1);
  EXPECT_TRUE(seq_.finished);
}

TEST_F(OutputProcessorTest, AStopInTheLastPlaceIsAStop) {
  Accept(4);
  Accept(5);
  EXPECT_EQ(Accept(10).finish_reason, FinishReason::kStop);
}

TEST_F(OutputProcessorTest, AStopTokenBeforeMinTokensIsAnOrdinaryToken) {
  seq_.min_tokens = 2;
  EXPECT_EQ(Accept(10).finish_reason, FinishReason::kNone);
  EXPECT_EQ(Accept(10).finish_reason, FinishReason::kNone);
  EXPECT_EQ(Accept(10).finish_reason, FinishReason::kStop);
}

TEST_F(OutputProcessorTest, LogprobsCountWithinTheNews) {
  SampledLogprobs logprobs;
  logprobs.sample_idx = 17;  // of the whole step
  logprobs.logprob = -1.5f;
  logprobs.top = {{.token_id = 4, .logprob = -1.5f}};
  const SequenceOutput output = Accept(4, &logprobs);
  ASSERT_EQ(output.logprobs.size(), 1);
  EXPECT_EQ(output.logprobs[0].sample_idx, 0);
  EXPECT_EQ(output.logprobs[0].logprob, -1.5f);
  EXPECT_EQ(output.logprobs[0].top.size(), 1);
  EXPECT_TRUE(Accept(5).logprobs.empty());
}

}  // namespace
}  // namespace quire
