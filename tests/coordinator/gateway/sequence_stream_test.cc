// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/sequence_stream.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;

SequenceOutput Output(int64_t offset, const std::string& text,
                      FinishReason reason = FinishReason::kNone) {
  SequenceOutput output;
  output.token_offset = offset;
  const std::vector<TokenId> tokens = Letters(text);
  output.tokens.assign(tokens.begin(), tokens.end());
  output.finish_reason = reason;
  return output;
}

class SequenceStreamTest : public testing::Test {
 protected:
  SequenceStream Make(const SamplingParams& sampling = {}) {
    auto stream = SequenceStream::Create(tokenizer_.get(), sampling);
    EXPECT_TRUE(stream.ok()) << stream.status();
    return *std::move(stream);
  }
  const std::unique_ptr<Tokenizer> tokenizer_ = MakeLettersTokenizer();
};

TEST_F(SequenceStreamTest, ChunksFollowOnWithoutGap) {
  SequenceStream stream = Make();
  EXPECT_FALSE(stream.has_chunk());
  ASSERT_TRUE(stream.Append(Output(0, "ab")).ok());
  v1::Chunk chunk = stream.TakeChunk();
  EXPECT_EQ(chunk.text(), "ab");
  EXPECT_EQ(chunk.token_offset(), 0u);
  EXPECT_FALSE(stream.has_chunk());
  ASSERT_TRUE(stream.Append(Output(2, "c", FinishReason::kLength)).ok());
  chunk = stream.TakeChunk();
  EXPECT_EQ(chunk.text(), "c");
  EXPECT_EQ(chunk.token_offset(), 2u);
  EXPECT_THAT(chunk.token_ids(), ElementsAre(3));
  EXPECT_EQ(chunk.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_TRUE(stream.is_finished());
}

TEST_F(SequenceStreamTest, WhatIsNotTakenJoinsTheNextChunk) {
  SequenceStream stream = Make();
  ASSERT_TRUE(stream.Append(Output(0, "ab")).ok());
  ASSERT_TRUE(stream.Append(Output(2, "cd")).ok());
  const v1::Chunk chunk = stream.TakeChunk();
  EXPECT_EQ(chunk.text(), "abcd");
  EXPECT_EQ(chunk.token_offset(), 0u);
  EXPECT_EQ(chunk.token_ids_size(), 4);
}

TEST_F(SequenceStreamTest, MissingTokensAreAnError) {
  SequenceStream stream = Make();
  ASSERT_TRUE(stream.Append(Output(0, "ab")).ok());
  EXPECT_EQ(stream.Append(Output(3, "d")).code(), absl::StatusCode::kInternal);
}

TEST_F(SequenceStreamTest, StopStringAcrossOutputsEndsItAndLeavesNoTrace) {
  SamplingParams sampling;
  sampling.stop = {"stop"};
  SequenceStream stream = Make(sampling);
  ASSERT_TRUE(stream.Append(Output(0, "so st")).ok());
  EXPECT_EQ(stream.TakeChunk().text(), "so ");  // " st" may be the beginning
  ASSERT_TRUE(stream.Append(Output(5, "opabc")).ok());
  EXPECT_TRUE(stream.stopped_by_string());
  const v1::Chunk chunk = stream.TakeChunk();
  EXPECT_EQ(chunk.text(), "");
  EXPECT_EQ(chunk.stop_string(), "stop");
  EXPECT_EQ(chunk.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_THAT(chunk.token_ids(), ElementsAre(15, 16));  // "abc" is dropped
  EXPECT_EQ(stream.num_tokens(), 7);
  ASSERT_TRUE(stream.Append(Output(10, "z")).ok());  // late: ignored
  EXPECT_FALSE(stream.has_chunk());
}

TEST_F(SequenceStreamTest, StopStringIsKeptWhenAskedFor) {
  SamplingParams sampling;
  sampling.stop = {"stop"};
  sampling.include_stop_str_in_output = true;
  SequenceStream stream = Make(sampling);
  ASSERT_TRUE(stream.Append(Output(0, "do stop it")).ok());
  EXPECT_EQ(stream.TakeChunk().text(), "do stop");
}

TEST_F(SequenceStreamTest, HeldBackTextComesWithTheEnd) {
  SamplingParams sampling;
  sampling.stop = {"stop"};
  SequenceStream stream = Make(sampling);
  ASSERT_TRUE(stream.Append(Output(0, "sto", FinishReason::kLength)).ok());
  const v1::Chunk chunk = stream.TakeChunk();
  EXPECT_EQ(chunk.text(), "sto");
  EXPECT_EQ(chunk.finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(SequenceStreamTest, StopTokenIsReportedButNotRead) {
  SequenceStream stream = Make();
  SequenceOutput output = Output(0, "abx", FinishReason::kStop);
  output.stop_token_id = Letters("x")[0];
  ASSERT_TRUE(stream.Append(output).ok());
  const v1::Chunk chunk = stream.TakeChunk();
  EXPECT_EQ(chunk.text(), "ab");
  EXPECT_EQ(chunk.token_ids_size(), 3);
  EXPECT_EQ(chunk.stop_token_id(), 24u);
}

TEST_F(SequenceStreamTest, ShownControlTokensAreSpelledOut) {
  auto stream = SequenceStream::Create(tokenizer_.get(), {}, /*index=*/0,
                                       /*shown_special_tokens=*/{kEosToken});
  ASSERT_TRUE(stream.ok()) << stream.status();
  SequenceOutput output = Output(0, "a");
  output.tokens.push_back(kEosToken);
  output.tokens.push_back(Letters("b")[0]);
  ASSERT_TRUE(stream->Append(output).ok());
  EXPECT_EQ(stream->TakeChunk().text(), "a<eos>b");
  SequenceStream other = Make();
  ASSERT_TRUE(other.Append(output).ok());
  EXPECT_EQ(other.TakeChunk().text(), "ab");
}

TEST_F(SequenceStreamTest, LogprobsBelongToTheirTokens) {
  SamplingParams sampling;
  sampling.slot.num_logprobs = 1;
  SequenceStream stream = Make(sampling);
  SequenceOutput output = Output(0, "ab");
  output.logprobs = {{0, -0.5f, 1, {{1, -0.5f}}}, {1, -2.f, 3, {{9, -0.1f}}}};
  ASSERT_TRUE(stream.Append(output).ok());
  const v1::Chunk chunk = stream.TakeChunk();
  ASSERT_EQ(chunk.logprobs_size(), 2);
  EXPECT_EQ(chunk.logprobs(1).token_id(), 2u);
  EXPECT_EQ(chunk.logprobs(1).logprob(), -2.f);
  EXPECT_EQ(chunk.logprobs(1).rank(), 3u);
  EXPECT_EQ(chunk.logprobs(1).top(0).token_id(), 9u);
}

}  // namespace
}  // namespace quire
