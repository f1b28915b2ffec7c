// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/chat_stream.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

v1::Chunk Chunk(const std::string& text,
                v1::FinishReason reason = v1::FINISH_REASON_UNSPECIFIED) {
  v1::Chunk chunk;
  chunk.set_index(2);
  chunk.set_text(text);
  chunk.set_finish_reason(reason);
  return chunk;
}

TEST(ChatStreamTest, TheFirstChunkSaysWhoSpeaks) {
  ChatStream stream(ToolCallFormat::kNone, 1);
  v1::ChatChunk chunk = stream.Convert(Chunk("Hello"));
  EXPECT_EQ(chunk.role(), "assistant");
  EXPECT_EQ(chunk.content(), "Hello");
  EXPECT_EQ(chunk.index(), 2u);
  chunk = stream.Convert(Chunk("!", v1::FINISH_REASON_STOP));
  EXPECT_EQ(chunk.role(), "");
  EXPECT_EQ(chunk.finish_reason(), v1::CHAT_FINISH_REASON_STOP);
}

TEST(ChatStreamTest, TokensAndWhatStoppedThemStayTheSame) {
  ChatStream stream(ToolCallFormat::kHermes, 1);
  v1::Chunk chunk = Chunk("<tool", v1::FINISH_REASON_STOP);
  chunk.set_token_offset(5);
  chunk.add_token_ids(9);
  chunk.add_logprobs()->set_logprob(-1);
  chunk.set_stop_token_id(9);
  v1::ChatChunk converted = stream.Convert(chunk);
  EXPECT_EQ(converted.content(), "<tool");  // held back until the end
  EXPECT_EQ(converted.token_offset(), 5u);
  EXPECT_EQ(converted.token_ids(0), 9u);
  EXPECT_EQ(converted.logprobs(0).logprob(), -1);
  EXPECT_EQ(converted.stop_token_id(), 9u);
  chunk.set_stop_string("x");
  EXPECT_EQ(stream.Convert(chunk).stop_string(), "x");
}

TEST(ChatStreamTest, CallsAreTypedAndNameTheEnd) {
  ChatStream stream(ToolCallFormat::kHermes, 1);
  EXPECT_EQ(
      stream.Convert(Chunk("Well. <tool_call>{\"name\": \"f\",")).content(),
      "Well.");
  const v1::ChatChunk last = stream.Convert(Chunk(
      " \"arguments\": {\"a\": 1}}</tool_call>\n", v1::FINISH_REASON_STOP));
  EXPECT_EQ(last.content(), "");
  ASSERT_EQ(last.tool_calls_size(), 1);
  EXPECT_EQ(last.tool_calls(0).index(), 0u);
  EXPECT_EQ(last.tool_calls(0).call().name(), "f");
  EXPECT_EQ(last.tool_calls(0).call().arguments_json(), "{\"a\": 1}");
  EXPECT_FALSE(last.tool_calls(0).call().id().empty());
  EXPECT_EQ(last.finish_reason(), v1::CHAT_FINISH_REASON_TOOL_CALLS);
}

TEST(ChatStreamTest, ACutOffAnswerSaysSoWhateverItCalled) {
  ChatStream stream(ToolCallFormat::kHermes, 1);
  const v1::ChatChunk last = stream.Convert(
      Chunk("<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>"
            "<tool_call>{",
            v1::FINISH_REASON_LENGTH));
  EXPECT_EQ(last.tool_calls_size(), 1);
  EXPECT_EQ(last.content(), "<tool_call>{");
  EXPECT_EQ(last.finish_reason(), v1::CHAT_FINISH_REASON_LENGTH);
  ChatStream other(ToolCallFormat::kNone, 1);
  EXPECT_EQ(
      other.Convert(Chunk("", v1::FINISH_REASON_CANCELLED)).finish_reason(),
      v1::CHAT_FINISH_REASON_CANCELLED);
}

}  // namespace
}  // namespace quire
