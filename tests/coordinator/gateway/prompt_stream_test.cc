// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/prompt_stream.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

SampledLogprobs Scored(float logprob) {
  SampledLogprobs scored;
  scored.logprob = logprob;
  scored.rank = 3;
  scored.top = {{7, -0.5f}};
  return scored;
}

TEST(PromptStreamTest, AnEchoIsThereAtOnceInPiecesThatFollowOn) {
  const auto tokenizer = MakeLettersTokenizer();
  std::string text;
  for (int i = 0; i < 2500; ++i) text += static_cast<char>('a' + i % 26);
  PromptStream stream(tokenizer.get(), Letters(text), {.text = true});
  std::string heard;
  uint64_t num_tokens = 0;
  while (stream.has_chunk()) {
    const auto chunk = stream.TakeChunk();
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    EXPECT_EQ(chunk->token_offset(), num_tokens);
    EXPECT_LE(chunk->token_ids_size(), PromptStream::kMaxChunkTokens);
    EXPECT_TRUE(chunk->logprobs().empty());
    num_tokens += chunk->token_ids_size();
    heard += chunk->text();
  }
  EXPECT_EQ(num_tokens, 2500);
  EXPECT_EQ(heard, text);
}

TEST(PromptStreamTest, TokensWaitForTheirLogProbabilities) {
  const auto tokenizer = MakeLettersTokenizer();
  PromptStream stream(tokenizer.get(), Letters("abcd"),
                      {.text = true, .logprobs = true});
  auto chunk = stream.TakeChunk();  // nothing comes before the first token
  ASSERT_TRUE(chunk.ok());
  ASSERT_EQ(chunk->logprobs_size(), 1);
  EXPECT_EQ(chunk->logprobs(0).token_id(), 1);
  EXPECT_EQ(chunk->logprobs(0).rank(), 0);
  EXPECT_FALSE(stream.has_chunk());
  ASSERT_TRUE(stream.Append({Scored(-1), Scored(-2)}).ok());
  chunk = stream.TakeChunk();
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(chunk->token_offset(), 1);
  EXPECT_EQ(chunk->text(), "bc");
  ASSERT_EQ(chunk->logprobs_size(), 2);
  EXPECT_EQ(chunk->logprobs(1).token_id(), 3);
  EXPECT_EQ(chunk->logprobs(1).logprob(), -2);
  EXPECT_EQ(chunk->logprobs(1).rank(), 3);
  EXPECT_EQ(chunk->logprobs(1).top(0).token_id(), 7);
  EXPECT_FALSE(stream.has_chunk());
  EXPECT_TRUE(absl::IsInternal(stream.Append({Scored(-3), Scored(-4)})));
}

TEST(PromptStreamTest, WithoutEchoThereIsNoText) {
  const auto tokenizer = MakeLettersTokenizer();
  PromptStream stream(tokenizer.get(), Letters("ab"), {.logprobs = true});
  ASSERT_TRUE(stream.Append({Scored(-1)}).ok());
  const auto chunk = stream.TakeChunk();
  ASSERT_TRUE(chunk.ok());
  EXPECT_EQ(chunk->token_ids_size(), 2);
  EXPECT_TRUE(chunk->text().empty());
}

}  // namespace
}  // namespace quire
