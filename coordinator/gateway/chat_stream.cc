// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/chat_stream.h"

namespace quire {
namespace {

void Add(const ToolCallOutput& output, v1::ChatChunk* chunk) {
  chunk->mutable_content()->append(output.text);
  for (const ToolCallPiece& call : output.calls) {
    v1::ToolCallDelta* delta = chunk->add_tool_calls();
    delta->set_index(static_cast<uint32_t>(call.index));
    delta->mutable_call()->set_id(call.id);
    delta->mutable_call()->set_name(call.name);
    delta->mutable_call()->set_arguments_json(call.arguments);
  }
}

v1::ChatFinishReason ToChatReason(v1::FinishReason reason, bool has_calls) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return has_calls ? v1::CHAT_FINISH_REASON_TOOL_CALLS
                       : v1::CHAT_FINISH_REASON_STOP;
    case v1::FINISH_REASON_LENGTH:
      return v1::CHAT_FINISH_REASON_LENGTH;
    case v1::FINISH_REASON_CANCELLED:
      return v1::CHAT_FINISH_REASON_CANCELLED;
    default:
      return v1::CHAT_FINISH_REASON_UNSPECIFIED;
  }
}

}  // namespace

v1::ChatChunk ChatStream::Convert(const v1::Chunk& chunk) {
  v1::ChatChunk result;
  result.set_index(chunk.index());
  if (!has_role_) result.set_role("assistant");
  has_role_ = true;
  Add(parser_.Append(chunk.text()), &result);
  if (chunk.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    Add(parser_.Finish(), &result);
    result.set_finish_reason(
        ToChatReason(chunk.finish_reason(), parser_.num_calls() > 0));
  }
  if (chunk.has_stop_string()) result.set_stop_string(chunk.stop_string());
  if (chunk.has_stop_token_id()) {
    result.set_stop_token_id(chunk.stop_token_id());
  }
  result.set_token_offset(chunk.token_offset());
  *result.mutable_token_ids() = chunk.token_ids();
  *result.mutable_logprobs() = chunk.logprobs();
  return result;
}

}  // namespace quire
