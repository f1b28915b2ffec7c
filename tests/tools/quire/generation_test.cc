// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/generation.h"

#include <gtest/gtest.h>

#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

const absl::Time kStart = absl::UnixEpoch();

TEST(GenerationTest, PutsTheStreamTogether) {
  Generation generation(kStart);
  v1::GenerateResponse last = ChunkResponse(2, {7});
  last.mutable_chunk()->set_finish_reason(v1::FINISH_REASON_LENGTH);
  ASSERT_TRUE(
      generation.Add(ChunkResponse(0, {5, 6}), kStart + absl::Milliseconds(100))
          .ok());
  ASSERT_TRUE(generation.Add(last, kStart + absl::Milliseconds(300)).ok());
  EXPECT_FALSE(generation.CheckComplete().ok());
  ASSERT_TRUE(
      generation.Add(CompleteResponse(4, 3), kStart + absl::Seconds(1)).ok());
  EXPECT_TRUE(generation.CheckComplete().ok());
  EXPECT_EQ(generation.text(), "5 6 7 ");
  const nlohmann::ordered_json json = generation.ToJson();
  EXPECT_EQ(json["token_ids"].dump(), "[5,6,7]");
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(json["ttft_ms"], 100);
  EXPECT_EQ(json["e2el_ms"], 300);
  EXPECT_FALSE(json.contains("logprobs"));
  // Two tokens in the 200 ms after the first.
  EXPECT_EQ(generation.Summary(),
            "[3 tokens, 10.0 tokens/s, first after 100 ms, finish: length]");
}

TEST(GenerationTest, EachAnswerTakesItsOwnChunks) {
  Generation first(kStart), second(kStart, /*index=*/1);
  v1::GenerateResponse other = ChunkResponse(0, {7});
  other.mutable_chunk()->set_index(1);
  for (const v1::GenerateResponse& response :
       {ChunkResponse(0, {5}), other, ChunkResponse(1, {6})}) {
    EXPECT_TRUE(first.Add(response, kStart).ok());
    EXPECT_TRUE(second.Add(response, kStart).ok());
  }
  EXPECT_EQ(first.text(), "5 6 ");
  EXPECT_EQ(second.text(), "7 ");
}

TEST(GenerationTest, ALostTokenIsDataLoss) {
  Generation generation(kStart);
  ASSERT_TRUE(generation.Add(ChunkResponse(0, {5}), kStart).ok());
  EXPECT_EQ(generation.Add(ChunkResponse(2, {7}), kStart).code(),
            absl::StatusCode::kDataLoss);
}

TEST(GenerationTest, LogProbabilitiesAreKept) {
  Generation generation(kStart);
  v1::GenerateResponse response = ChunkResponse(0, {5});
  v1::TokenLogprobs* logprobs = response.mutable_chunk()->add_logprobs();
  logprobs->set_token_id(5);
  logprobs->set_logprob(-0.5);
  logprobs->set_rank(1);
  logprobs->add_top()->set_token_id(9);
  ASSERT_TRUE(generation.Add(response, kStart).ok());
  EXPECT_EQ(generation.CumulativeLogprob(), -0.5);
  response = ChunkResponse(1, {6});
  response.mutable_chunk()->add_logprobs()->set_logprob(-1.25);
  ASSERT_TRUE(generation.Add(response, kStart).ok());
  const nlohmann::ordered_json json = generation.ToJson();
  EXPECT_EQ(json["cumulative_logprob"], -1.75);
  EXPECT_EQ(json["logprobs"][0]["logprob"], -0.5);
  EXPECT_EQ(json["logprobs"][0]["top"][0]["token_id"], 9);
}

TEST(GenerationTest, AnEmptyGenerationHasNoTimes) {
  Generation generation(kStart);
  EXPECT_FALSE(generation.ToJson().contains("ttft_ms"));
  EXPECT_FALSE(generation.CumulativeLogprob().has_value());
  EXPECT_EQ(generation.Summary(), "[0 tokens, finish: unspecified]");
}

}  // namespace
}  // namespace quire
