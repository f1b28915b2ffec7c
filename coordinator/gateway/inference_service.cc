// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/inference_service.h"

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/status_macros.h"
#include "common/wire/status_wire.h"
#include "coordinator/gateway/chat_call.h"
#include "coordinator/gateway/explain_response.h"
#include "coordinator/gateway/generate_call.h"
#include "coordinator/gateway/public_error.h"
#include "coordinator/gateway/validation.h"
#include "proto/inference.grpc.pb.h"

namespace quire {
namespace {

// Text longer than this is handled on the text pool; see generate_session.cc.
constexpr size_t kInlineBytes = 4096;
constexpr int kInlineTokens = 1024;

grpc::Status ToPublic(const absl::Status& status) {
  return ToGrpcStatus(AsPublicError(status, "NO_READY_WORKERS"));
}

absl::Status TokenizeText(const GatewayContext& gateway,
                          const v1::TokenizeRequest& request,
                          v1::TokenizeResponse* response) {
  EncodeOptions options;
  options.add_special_tokens =
      !request.has_add_special_tokens() || request.add_special_tokens();
  QUIRE_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                         gateway.tokenizer->Encode(request.text(), options));
  for (const TokenId id : ids) {
    response->add_token_ids(id);
    absl::StatusOr<std::string> piece = gateway.tokenizer->IdToPiece(id);
    response->add_pieces(piece.ok() ? *piece : "");
  }
  return absl::OkStatus();
}

absl::Status DetokenizeIds(const GatewayContext& gateway,
                           const v1::DetokenizeRequest& request,
                           v1::DetokenizeResponse* response) {
  QUIRE_ASSIGN_OR_RETURN(
      const std::vector<TokenId> ids,
      CheckTokenIds("token_ids", request.token_ids(), gateway.limits));
  const bool skip =
      !request.has_skip_special_tokens() || request.skip_special_tokens();
  QUIRE_ASSIGN_OR_RETURN(*response->mutable_text(),
                         gateway.tokenizer->Decode(ids, skip));
  return absl::OkStatus();
}

// Calls that gRPC is asked for at a time, of a method and a lane: as many may
// come at once without waiting for the thread that takes them.
constexpr int kAskedCalls = 32;

// What streams is told of by queues (call_queues.h), the rest on gRPC's
// threads.
using Calls =
    v1::Inference::WithAsyncMethod_Generate<v1::Inference::WithAsyncMethod_Chat<
        v1::Inference::WithCallbackMethod_Cancel<
            v1::Inference::WithCallbackMethod_Explain<
                v1::Inference::WithCallbackMethod_ListModels<
                    v1::Inference::WithCallbackMethod_GetServerInfo<
                        v1::Inference::WithCallbackMethod_Tokenize<
                            v1::Inference::WithCallbackMethod_Detokenize<
                                v1::Inference::Service>>>>>>>>;

// Thread-safe.
class Service final : public Calls, public InferenceService {
 public:
  Service(const GatewayContext* gateway, CallQueues* queues)
      : gateway_(gateway), queues_(queues) {}

  grpc::Service* service() override { return this; }

  void TakeCalls() override {
    for (size_t lane = 0; lane < queues_->num_lanes(); ++lane) {
      for (int i = 0; i < kAskedCalls; ++i) {
        AskForGenerate(lane);
        AskForChat(lane);
      }
    }
  }

  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* rpc,
                                   const v1::CancelRequest* request,
                                   v1::CancelResponse*) override {
    return Answer(rpc, gateway_->sessions->Cancel(request->request_id()));
  }

  // The engine answers between two steps; nobody waits for it on a gRPC thread.
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* rpc,
                                    const v1::ExplainRequest* request,
                                    v1::ExplainResponse* response) override {
    return AnswerLater(rpc, /*is_short=*/false,
                       [this, request, response]() -> absl::Status {
                         QUIRE_ASSIGN_OR_RETURN(
                             const Timeline timeline,
                             gateway_->engine->Explain(request->request_id()));
                         FillExplainResponse(timeline, response);
                         return absl::OkStatus();
                       });
  }

  grpc::ServerUnaryReactor* ListModels(
      grpc::CallbackServerContext* rpc, const v1::ListModelsRequest*,
      v1::ListModelsResponse* response) override {
    v1::Model* model = response->add_models();
    model->set_name(gateway_->limits.model_name);
    model->set_max_model_len(gateway_->limits.max_model_len);
    model->set_vocab_size(gateway_->limits.vocab_size);
    return Answer(rpc, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* GetServerInfo(
      grpc::CallbackServerContext* rpc, const v1::GetServerInfoRequest*,
      v1::GetServerInfoResponse* response) override {
    FillFacts(response);
    FillState(response);
    return Answer(rpc, absl::OkStatus());
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* rpc,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    absl::Status status = CheckModelName(request->model(), gateway_->limits);
    if (status.ok())
      status = CheckTextLength(request->text(), gateway_->limits);
    if (!status.ok()) return Answer(rpc, status);
    return AnswerLater(rpc, request->text().size() <= kInlineBytes,
                       [this, request, response] {
                         return TokenizeText(*gateway_, *request, response);
                       });
  }

  grpc::ServerUnaryReactor* Detokenize(
      grpc::CallbackServerContext* rpc, const v1::DetokenizeRequest* request,
      v1::DetokenizeResponse* response) override {
    const absl::Status status =
        CheckModelName(request->model(), gateway_->limits);
    if (!status.ok()) return Answer(rpc, status);
    return AnswerLater(rpc, request->token_ids_size() <= kInlineTokens,
                       [this, request, response] {
                         return DetokenizeIds(*gateway_, *request, response);
                       });
  }

 private:
  void AskForGenerate(size_t lane) {
    auto* call =
        new GenerateCall(gateway_, {queues_->TakeShare(), lane, [this, lane] {
                                      AskForGenerate(lane);
                                      return ++num_requests_;
                                    }});
    RequestGenerate(call->rpc(), call->request(), call->writer(),
                    queues_->calls(lane), queues_->arrivals(lane),
                    call->arrival());
  }

  void AskForChat(size_t lane) {
    auto* call =
        new ChatCall(gateway_, {queues_->TakeShare(), lane, [this, lane] {
                                  AskForChat(lane);
                                  return ++num_requests_;
                                }});
    RequestChat(call->rpc(), call->request(), call->writer(),
                queues_->calls(lane), queues_->arrivals(lane), call->arrival());
  }

  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* rpc,
                                          const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
    reactor->Finish(ToPublic(status));
    return reactor;
  }

  // Answers with what `work` returns, here or on the text pool. Request and
  // response live until the answer, even if the client leaves before.
  grpc::ServerUnaryReactor* AnswerLater(grpc::CallbackServerContext* rpc,
                                        bool is_short,
                                        std::function<absl::Status()> work) {
    grpc::ServerUnaryReactor* reactor = rpc->DefaultReactor();
    if (is_short) {
      reactor->Finish(ToPublic(work()));
    } else if (!gateway_->text_pool->TryRun([reactor, work = std::move(work)] {
                 reactor->Finish(ToPublic(work()));
               })) {
      reactor->Finish(ToPublic(absl::ResourceExhaustedError(
          "too many long texts wait to be worked on; try again soon")));
    }
    return reactor;
  }

  void FillFacts(v1::GetServerInfoResponse* response) const {
    const ServerFacts& facts = gateway_->facts;
    response->set_version(facts.version);
    response->set_model(gateway_->limits.model_name);
    response->set_architecture(facts.architecture);
    response->set_dtype(facts.dtype);
    response->set_device(facts.device != nullptr ? facts.device() : "");
    response->set_tensor_parallel_size(facts.tensor_parallel_size);
    response->set_data_parallel_size(facts.data_parallel_size);
    for (const auto& [name, value] : facts.flags) {
      (*response->mutable_flags())[name] = value;
    }
  }

  void FillState(v1::GetServerInfoResponse* response) const {
    const EngineInfo info = gateway_->engine->Info();
    response->set_block_size(info.block_size);
    response->set_num_blocks(info.num_blocks);
    response->set_max_model_len(info.max_model_len);
    response->set_max_num_seqs(info.max_num_seqs);
    response->set_max_num_batched_tokens(info.max_num_batched_tokens);
    const EngineStats stats = gateway_->engine->Stats();
    response->set_ready(stats.ready && !gateway_->sessions->is_draining());
    response->set_num_free_blocks(stats.num_free_blocks);
    response->set_num_cached_blocks(stats.num_cached_blocks);
    response->set_num_running_requests(stats.num_running);
    response->set_num_waiting_requests(stats.num_waiting);
  }

  const GatewayContext* const gateway_;
  CallQueues* const queues_;
  std::atomic<uint64_t> num_requests_{0};
};

}  // namespace

std::unique_ptr<InferenceService> MakeInferenceService(
    const GatewayContext* gateway, CallQueues* queues) {
  return std::make_unique<Service>(gateway, queues);
}

}  // namespace quire
