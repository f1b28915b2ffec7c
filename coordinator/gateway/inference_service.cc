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
#include "coordinator/gateway/raw_message.h"
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
// threads; all as bytes, which are looked at before they are parsed.
using Calls =
    v1::Inference::WithRawMethod_Generate<v1::Inference::WithRawMethod_Chat<
        v1::Inference::WithRawCallbackMethod_Cancel<
            v1::Inference::WithRawCallbackMethod_Explain<
                v1::Inference::WithRawCallbackMethod_ListModels<
                    v1::Inference::WithRawCallbackMethod_GetServerInfo<
                        v1::Inference::WithRawCallbackMethod_Tokenize<
                            v1::Inference::WithRawCallbackMethod_Detokenize<
                                v1::Inference::Service>>>>>>>>;

// A unary call with its messages, shared by those who work on it.
template <typename Request, typename Response>
struct UnaryCall {
  grpc::ServerUnaryReactor* reactor;
  grpc::ByteBuffer* answer;
  Request request;
  Response response;

  void End(const absl::Status& status) {
    if (status.ok()) *answer = EncodeResponse(response);
    reactor->Finish(ToPublic(status));
  }
};

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
                                   const grpc::ByteBuffer* bytes,
                                   grpc::ByteBuffer* answer) override {
    return Take<v1::CancelRequest, v1::CancelResponse>(
        rpc, bytes, answer, [this](auto call) {
          call->End(gateway_->sessions->Cancel(call->request.request_id()));
        });
  }

  // The engine answers between two steps; nobody waits for it on a gRPC thread.
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* rpc,
                                    const grpc::ByteBuffer* bytes,
                                    grpc::ByteBuffer* answer) override {
    return Take<v1::ExplainRequest, v1::ExplainResponse>(
        rpc, bytes, answer, [this](auto call) {
          RunLater(/*is_short=*/false, call, [this, call]() -> absl::Status {
            QUIRE_ASSIGN_OR_RETURN(
                const Timeline timeline,
                gateway_->engine->Explain(call->request.request_id()));
            FillExplainResponse(timeline, &call->response);
            return absl::OkStatus();
          });
        });
  }

  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* rpc,
                                       const grpc::ByteBuffer* bytes,
                                       grpc::ByteBuffer* answer) override {
    return Take<v1::ListModelsRequest, v1::ListModelsResponse>(
        rpc, bytes, answer, [this](auto call) {
          v1::Model* model = call->response.add_models();
          model->set_name(gateway_->limits.model_name);
          model->set_max_model_len(gateway_->limits.max_model_len);
          model->set_vocab_size(gateway_->limits.vocab_size);
          call->End(absl::OkStatus());
        });
  }

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* rpc,
                                          const grpc::ByteBuffer* bytes,
                                          grpc::ByteBuffer* answer) override {
    return Take<v1::GetServerInfoRequest, v1::GetServerInfoResponse>(
        rpc, bytes, answer, [this](auto call) {
          FillFacts(&call->response);
          FillState(&call->response);
          call->End(absl::OkStatus());
        });
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* rpc,
                                     const grpc::ByteBuffer* bytes,
                                     grpc::ByteBuffer* answer) override {
    return Take<v1::TokenizeRequest, v1::TokenizeResponse>(
        rpc, bytes, answer, [this](auto call) {
          const v1::TokenizeRequest& request = call->request;
          absl::Status status =
              CheckModelName(request.model(), gateway_->limits);
          if (status.ok())
            status = CheckTextLength(request.text(), gateway_->limits);
          if (!status.ok()) return call->End(status);
          RunLater(request.text().size() <= kInlineBytes, call, [this, call] {
            return TokenizeText(*gateway_, call->request, &call->response);
          });
        });
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* rpc,
                                       const grpc::ByteBuffer* bytes,
                                       grpc::ByteBuffer* answer) override {
    return Take<v1::DetokenizeRequest, v1::DetokenizeResponse>(
        rpc, bytes, answer, [this](auto call) {
          const v1::DetokenizeRequest& request = call->request;
          const absl::Status status =
              CheckModelName(request.model(), gateway_->limits);
          if (!status.ok()) return call->End(status);
          RunLater(
              request.token_ids_size() <= kInlineTokens, call, [this, call] {
                return DetokenizeIds(*gateway_, call->request, &call->response);
              });
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

  // Reads the request and gives the call to `handle`, which sees to its end.
  template <typename Request, typename Response, typename Handle>
  static grpc::ServerUnaryReactor* Take(grpc::CallbackServerContext* rpc,
                                        const grpc::ByteBuffer* bytes,
                                        grpc::ByteBuffer* answer,
                                        Handle handle) {
    auto call = std::make_shared<UnaryCall<Request, Response>>();
    call->reactor = rpc->DefaultReactor();
    call->answer = answer;
    grpc::ByteBuffer read = *bytes;  // shares them
    const absl::Status status = ReadRequest(&read, &call->request);
    grpc::ServerUnaryReactor* reactor = call->reactor;
    status.ok() ? handle(std::move(call)) : call->End(status);
    return reactor;
  }

  // Ends the call with what `work` returns, here or on the text pool.
  template <typename Call>
  void RunLater(bool is_short, const std::shared_ptr<Call>& call,
                std::function<absl::Status()> work) {
    if (is_short) {
      call->End(work());
    } else if (!gateway_->text_pool->TryRun(
                   [call, work = std::move(work)] { call->End(work()); })) {
      call->End(absl::ResourceExhaustedError(
          "too many long texts wait to be worked on; try again soon"));
    }
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
