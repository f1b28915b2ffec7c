// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/best_streams.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;

SamplingParams Sampling(int32_t n, int32_t best_of) {
  SamplingParams sampling;
  sampling.n = n;
  sampling.best_of = best_of;
  sampling.stop = {"stop"};
  return sampling;
}

TEST(BestStreamsTest, OnlyStopStringsOfAWiderChoiceBringItHere) {
  EXPECT_TRUE(IsRankedByStreams(Sampling(1, 3)));
  EXPECT_FALSE(IsRankedByStreams(Sampling(3, 3)));
  SamplingParams sampling = Sampling(1, 3);
  sampling.stop.clear();  // the engine's own choice
  EXPECT_FALSE(IsRankedByStreams(sampling));
}

TEST(BestStreamsTest, AllAreAskedForWithTheirProbabilities) {
  SamplingParams sampling = Sampling(1, 3);
  AskForAll(&sampling);
  EXPECT_EQ(sampling.n, 3);
  EXPECT_EQ(sampling.slot.num_logprobs, 0);
  sampling.slot.num_logprobs = 5;
  AskForAll(&sampling);
  EXPECT_EQ(sampling.slot.num_logprobs, 5);
}

TEST(BestStreamsTest, TokensAfterTheStopStringDoNotCount) {
  const auto tokenizer = MakeLettersTokenizer();
  std::vector<SequenceStream> streams;
  // "d" after the stop would make the first one the likeliest.
  const struct {
    std::string text;
    std::vector<float> logprobs;
  } outputs[] = {{"astopd", {-2, -1, -1, -1, -1, 50}},
                 {"b", {-3}},
                 {"c", {-4}},
                 {"d", {-3}}};
  for (const auto& each : outputs) {
    auto stream = SequenceStream::Create(tokenizer.get(), Sampling(1, 4),
                                         static_cast<int32_t>(streams.size()));
    ASSERT_TRUE(stream.ok()) << stream.status();
    SequenceOutput output;
    const std::vector<TokenId> tokens = Letters(each.text);
    output.tokens.assign(tokens.begin(), tokens.end());
    output.finish_reason = FinishReason::kLength;
    for (const float logprob : each.logprobs) {
      SampledLogprobs& sampled = output.logprobs.emplace_back();
      sampled.sample_idx = static_cast<int32_t>(output.logprobs.size()) - 1;
      sampled.logprob = logprob;
    }
    ASSERT_TRUE(stream->Append(output).ok());
    streams.push_back(*std::move(stream));
  }
  EXPECT_EQ(streams[0].cumulative_logprob(), -6);
  EXPECT_THAT(BestStreams(streams, 4), ElementsAre(1, 3, 2, 0));
  EXPECT_THAT(BestStreams(streams, 1), ElementsAre(1));
}

}  // namespace
}  // namespace quire
