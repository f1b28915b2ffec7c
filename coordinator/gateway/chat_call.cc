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
#include "coordinator/gateway/generate_session.h"

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

// Deletes itself when gRPC is done with it.
class ChatCall final : public grpc::ServerWriteReactor<v1::ChatResponse>,
                       public ResponseWriter {
 public:
  ChatCall(const GatewayContext* gateway, uint64_t number,
           grpc::CallbackServerContext* rpc)
      : gateway_(gateway),
        rpc_(rpc),
        id_seed_(MixBits(gateway->seed ^ MixBits(~number))),
        session_(GenerateSession::Create(
            gateway, number, DeadlineOf(*rpc, gateway->clock->Now()), this)) {}

  void Start(const v1::ChatRequest& request) {
    absl::StatusOr<ChatPlan> planned = PlanChat(
        request, gateway_->chat, gateway_->limits, gateway_->clock->Now());
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
    input.encode = [tokenizer = gateway_->tokenizer,
                    plan = *std::move(planned)] {
      return EncodeChat(*tokenizer, *plan.chat_template, plan.messages,
                        plan.render);
    };
    session_->Start(input);
  }

 private:
  bool Write(const v1::GenerateResponse& response) override {
    Fill(response);
    StartWrite(&response_);
    return false;
  }
  void WriteLast(const v1::GenerateResponse& response) override {
    Fill(response);
    StartWriteAndFinish(&response_, grpc::WriteOptions(), grpc::Status::OK);
  }
  void Finish(const absl::Status& status) override {
    AddPushback(status, rpc_);
    ServerWriteReactor::Finish(ToGrpcStatus(status));
  }

  void OnWriteDone(bool ok) override { session_->OnWriteDone(ok); }
  void OnCancel() override { session_->OnCancel(); }
  void OnDone() override {
    session_->OnDone();
    delete this;
  }

  void Fill(const v1::GenerateResponse& response) {
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

  const GatewayContext* const gateway_;
  grpc::CallbackServerContext* const rpc_;
  const uint64_t id_seed_;
  const std::shared_ptr<GenerateSession> session_;
  ToolCallFormat format_ = ToolCallFormat::kNone;
  // The session's writes come one at a time.
  std::map<uint32_t, ChatStream> answers_;
  v1::ChatResponse response_;
};

}  // namespace

grpc::ServerWriteReactor<v1::ChatResponse>* StartChatCall(
    const GatewayContext* gateway, uint64_t number,
    grpc::CallbackServerContext* rpc, const v1::ChatRequest* request) {
  auto* call = new ChatCall(gateway, number, rpc);
  call->Start(*request);
  return call;
}

}  // namespace quire
