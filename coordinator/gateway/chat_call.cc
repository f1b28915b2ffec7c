// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/chat_call.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/digest.h"
#include "common/text/chat_prompt.h"
#include "common/wire/status_wire.h"
#include "coordinator/gateway/chat_plan.h"
#include "coordinator/gateway/chat_stream.h"
#include "coordinator/gateway/generate_call.h"
#include "proto/inference.grpc.pb.h"

namespace quire {
namespace {

// Marks of calls that the vocabulary holds as control tokens.
std::vector<TokenId> ShownTokens(const Tokenizer& tokenizer,
                                 ToolCallFormat format) {
  std::vector<TokenId> shown;
  for (const std::string_view mark : ToolCallMarks(format)) {
    const std::optional<TokenId> id = tokenizer.TokenToId(mark);
    if (id.has_value() && tokenizer.IsSpecial(*id)) shown.push_back(*id);
  }
  return shown;
}

}  // namespace

ChatCall::ChatCall(const GatewayContext* gateway, StreamCallSeat seat)
    : StreamCall(std::move(seat)), gateway_(gateway) {}

void ChatCall::OnArrival(uint64_t number,
                         const absl::StatusOr<v1::ChatRequest>& request) {
  id_seed_ = MixBits(gateway_->seed ^ MixBits(~number));
  session_ = GenerateSession::Create(
      gateway_, number, DeadlineOf(*rpc(), gateway_->clock->Now()), this);
  absl::StatusOr<ChatPlan> planned =
      request.ok() ? PlanChat(*request, gateway_->chat, gateway_->limits,
                              gateway_->clock->Now())
                   : request.status();
  if (!planned.ok()) {
    session_->Refuse(planned.status());
    return;
  }
  format_ = planned->tool_calls;
  const v1::GenerateRequest generate = std::move(planned->generate);
  SessionInput input;
  input.request = &generate;
  input.encode_bytes = planned->num_bytes;
  input.prompt_field = "messages";
  input.fills_window = true;
  input.shown_special_tokens = ShownTokens(*gateway_->tokenizer, format_);
  input.encode = [tokenizer = gateway_->tokenizer, plan = *std::move(planned)] {
    return EncodeChat(*tokenizer, *plan.chat_template, plan.messages,
                      plan.render);
  };
  session_->Start(input);
}

bool ChatCall::Write(const v1::GenerateResponse& response) {
  Fill(response);
  StartWrite(response_);
  return false;
}

void ChatCall::WriteLast(const v1::GenerateResponse& response) {
  Fill(response);
  StartWriteAndFinish(response_);
}

void ChatCall::Finish(const absl::Status& status) {
  AddPushback(status, rpc());
  StartFinish(ToGrpcStatus(status));
}

void ChatCall::Fill(const v1::GenerateResponse& response) {
  response_.set_request_id(response.request_id());
  if (response.has_chunk()) {
    const v1::Chunk& chunk = response.chunk();
    const auto [it, is_new] = answers_.try_emplace(
        chunk.index(), format_, MixBits(id_seed_ + chunk.index()));
    *response_.mutable_chunk() = it->second.Convert(chunk);
  } else if (response.has_complete()) {
    v1::ChatComplete* complete = response_.mutable_complete();
    *complete->mutable_usage() = response.complete().usage();
    complete->set_seed(response.complete().seed());
  }
}

}  // namespace quire
