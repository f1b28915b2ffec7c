// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/answer_streams.h"

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SequenceOutput Output(int32_t index, const std::string& text,
                      FinishReason reason = FinishReason::kNone) {
  SequenceOutput output;
  output.index = index;
  const std::vector<TokenId> tokens = Letters(text);
  output.tokens.assign(tokens.begin(), tokens.end());
  output.finish_reason = reason;
  return output;
}

// Ended, and as likely as this.
SequenceOutput Ranked(int32_t index, const std::string& text, float logprob) {
  SequenceOutput output = Output(index, text, FinishReason::kLength);
  for (size_t i = 0; i < output.tokens.size(); ++i) {
    SampledLogprobs& sampled = output.logprobs.emplace_back();
    sampled.sample_idx = static_cast<int32_t>(i);
    sampled.logprob = i == 0 ? logprob : 0;
  }
  return output;
}

class AnswerStreamsTest : public testing::Test {
 protected:
  void Open(SamplingParams sampling) {
    sampling_ = std::move(sampling);
    ASSERT_TRUE(answer_.Open(sampling_, {}).ok());
    answer_.SetPrompt(sampling_, Letters("hello"));
  }
  // The tokens follow on those before.
  void Append(SequenceOutput output) {
    output.token_offset = answer_.stream(output.index).num_tokens();
    ASSERT_TRUE(answer_.Append(output).ok());
  }
  // All that is there to be written, such as "prompt hello" and "1 ab".
  std::vector<std::string> TakeAll() {
    std::vector<std::string> taken;
    while (true) {
      v1::GenerateResponse response;
      const absl::StatusOr<bool> has_next = answer_.TakeNext(&response);
      EXPECT_TRUE(has_next.ok()) << has_next.status();
      if (!has_next.value_or(false)) return taken;
      taken.push_back(response.has_prompt()
                          ? absl::StrCat("prompt ", response.prompt().text())
                          : absl::StrCat(response.chunk().index(), " ",
                                         response.chunk().text()));
    }
  }

  // What Prometheus would read.
  std::string Scrape() const {
    return prometheus::TextSerializer().Serialize(registry_.Collect());
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = MakeLettersTokenizer();
  SimulatedClock clock_;
  prometheus::Registry registry_;
  RequestMetrics metrics_{"model", &registry_};
  SamplingParams sampling_;
  AnswerStreams answer_{tokenizer_.get(), &clock_, &metrics_, clock_.Now()};
};

TEST_F(AnswerStreamsTest, ThePromptComesBeforeWhatFollowsIt) {
  SamplingParams sampling;
  sampling.echo = true;
  EXPECT_TRUE(TellsPrompt(sampling));
  Open(sampling);
  Append(Output(0, "ab"));
  EXPECT_THAT(TakeAll(), ElementsAre("prompt hello", "0 ab"));
  EXPECT_THAT(TakeAll(), IsEmpty());
}

TEST_F(AnswerStreamsTest, APromptThatNobodyAskedForIsNotTold) {
  EXPECT_FALSE(TellsPrompt({}));
  Open({});
  EXPECT_TRUE(answer_.AppendPrompt(std::vector<SampledLogprobs>(9)).ok());
  EXPECT_THAT(TakeAll(), IsEmpty());
  EXPECT_EQ(answer_.usage().prompt_tokens(), 5u);
}

TEST_F(AnswerStreamsTest, SequencesTakeTurnsFromWhereTheyWereLeft) {
  SamplingParams sampling;
  sampling.n = 3;
  Open(sampling);
  Append(Output(0, "a"));
  v1::GenerateResponse response;
  ASSERT_TRUE(answer_.TakeNext(&response).value_or(false));
  Append(Output(0, "b"));
  Append(Output(1, "c"));
  Append(Output(2, "d"));
  EXPECT_THAT(TakeAll(), ElementsAre("1 c", "2 d", "0 b"));
}

TEST_F(AnswerStreamsTest, TheBestAreKnownWhenAllHaveEnded) {
  SamplingParams sampling;
  sampling.n = 2;
  sampling.best_of = 3;
  sampling.stop = {"stop"};
  Open(sampling);
  ASSERT_EQ(answer_.num_streams(), 3);
  Append(Ranked(0, "aaaa", -9));
  Append(Ranked(2, "c", -1));
  EXPECT_THAT(TakeAll(), IsEmpty());
  EXPECT_EQ(answer_.usage().output_tokens(), 0u);
  EXPECT_FALSE(answer_.is_finished());
  Append(Ranked(1, "bb", -2));
  EXPECT_TRUE(answer_.is_finished());
  EXPECT_THAT(TakeAll(), ElementsAre("0 c", "1 bb"));
  EXPECT_EQ(answer_.usage().output_tokens(), 3u);  // not the four of "aaaa"
}

TEST_F(AnswerStreamsTest, WhatItCameToIsCountedAndTimed) {
  Open({});
  EXPECT_EQ(answer_.finish_reason(), FinishReason::kNone);
  clock_.Advance(absl::Milliseconds(30));
  SequenceOutput first = Output(0, "a");
  first.num_cached_tokens = 4;
  Append(first);
  RequestMetrics::Outcome outcome;
  answer_.Describe(&outcome);
  EXPECT_LT(outcome.decode, absl::ZeroDuration());  // of one token
  clock_.Advance(absl::Milliseconds(20));
  Append(Output(0, "bc", FinishReason::kLength));
  EXPECT_EQ(answer_.finish_reason(), FinishReason::kLength);
  answer_.Describe(&outcome);
  EXPECT_EQ(outcome.decode, absl::Milliseconds(20));
  EXPECT_EQ(outcome.num_prompt_tokens, 5);
  EXPECT_EQ(outcome.num_output_tokens, 3);
  EXPECT_EQ(outcome.num_longest_tokens, 3);
  EXPECT_EQ(answer_.usage().cached_tokens(), 4u);
}

TEST_F(AnswerStreamsTest, GapsAreBetweenTokensOfOneSequence) {
  SamplingParams sampling;
  sampling.n = 2;
  Open(sampling);
  for (int step = 0; step < 3; ++step) {
    Append(Output(0, "a"));
    Append(Output(1, "b"));
    clock_.Advance(absl::Seconds(2));
  }
  Append(Output(1, "c", FinishReason::kLength));
  RequestMetrics::Outcome outcome;
  answer_.Describe(&outcome);
  metrics_.ObserveOutcome(outcome);
  const std::string text = Scrape();
  // Two of one, three of the other; of the longer, four tokens in 6 s.
  EXPECT_THAT(text, HasSubstr("quire_inter_token_latency_seconds_count"
                              "{model_name=\"model\"} 5"));
  EXPECT_THAT(text, HasSubstr("quire_inter_token_latency_seconds_sum"
                              "{model_name=\"model\"} 10"));
  EXPECT_THAT(text, HasSubstr("quire_request_time_per_output_token_seconds_sum"
                              "{model_name=\"model\"} 2"));
}

TEST_F(AnswerStreamsTest, AnswersThatComeWholeHaveNoGaps) {
  SamplingParams sampling;
  sampling.n = 2;
  sampling.best_of = 3;
  sampling.stop = {"stop"};
  Open(sampling);
  ASSERT_EQ(answer_.num_streams(), 3);
  for (int32_t index = 0; index < 3; ++index) Append(Ranked(index, "ab", -1));
  EXPECT_THAT(TakeAll(), ElementsAre("0 ab", "1 ab"));
  EXPECT_THAT(Scrape(), HasSubstr("quire_inter_token_latency_seconds_count"
                                  "{model_name=\"model\"} 0"));
}

}  // namespace
}  // namespace quire
