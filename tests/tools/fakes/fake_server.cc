// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/fakes/fake_server.h"

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "proto/inference.grpc.pb.h"

namespace quire {

class FakeServer::Service final : public v1::Inference::Service {
 public:
  explicit Service(Behaviour behaviour) : behaviour_(std::move(behaviour)) {
    info_.set_model("fake");
    info_.set_ready(true);
    info_.set_num_blocks(8);
    info_.set_num_free_blocks(8);
  }

  grpc::Status Generate(
      grpc::ServerContext* context, const v1::GenerateRequest* request,
      grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    {
      absl::MutexLock lock(&mutex_);
      ++num_requests_;
      ++num_running_;
      max_concurrency_ = std::max(max_concurrency_, num_running_);
    }
    const Script script = behaviour_(*request);
    for (const v1::GenerateResponse& response : script.responses) {
      if (!writer->Write(response)) break;
    }
    const bool is_cancelled =
        script.hangs && HangUntilCancelled(context, request->request_id());
    absl::MutexLock lock(&mutex_);
    --num_running_;
    if (is_cancelled) return {grpc::StatusCode::CANCELLED, "cancelled"};
    return {static_cast<grpc::StatusCode>(script.code), script.message};
  }

  grpc::Status Chat(grpc::ServerContext* context,
                    const v1::ChatRequest* request,
                    grpc::ServerWriter<v1::ChatResponse>* writer) override {
    {
      absl::MutexLock lock(&mutex_);
      chats_.push_back(*request);
    }
    const std::string said =
        request->messages(request->messages_size() - 1).content();
    if (said == "fail") {
      return {grpc::StatusCode::INVALID_ARGUMENT, "the template refuses"};
    }
    v1::ChatResponse response;
    v1::ChatChunk* chunk = response.mutable_chunk();
    chunk->set_role("assistant");
    if (said == "call") {
      v1::ToolCall* call = chunk->add_tool_calls()->mutable_call();
      call->set_name("f");
      call->set_arguments_json("{}");
    } else {
      chunk->set_content("heard " + said);
    }
    writer->Write(response);
    if (said == "hang" && HangUntilCancelled(context, "")) {
      return {grpc::StatusCode::CANCELLED, "cancelled"};
    }
    response.mutable_complete();
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Cancel(grpc::ServerContext*, const v1::CancelRequest* request,
                      v1::CancelResponse*) override {
    absl::MutexLock lock(&mutex_);
    ++num_cancel_calls_;
    cancelled_.insert(request->request_id());
    return grpc::Status::OK;
  }

  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    v1::Model* model = response->add_models();
    model->set_name("fake");
    model->set_vocab_size(100);
    model->set_max_model_len(4096);
    return grpc::Status::OK;
  }

  grpc::Status GetServerInfo(grpc::ServerContext*,
                             const v1::GetServerInfoRequest*,
                             v1::GetServerInfoResponse* response) override {
    absl::MutexLock lock(&mutex_);
    *response = info_;
    return grpc::Status::OK;
  }

  grpc::Status Explain(grpc::ServerContext*, const v1::ExplainRequest* request,
                       v1::ExplainResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (explained_.request_id() != request->request_id()) {
      return {grpc::StatusCode::NOT_FOUND, "never heard of it"};
    }
    *response = explained_;
    return grpc::Status::OK;
  }

  void set_info(const v1::GetServerInfoResponse& info) {
    absl::MutexLock lock(&mutex_);
    info_ = info;
  }
  void set_explained(const v1::ExplainResponse& explained) {
    absl::MutexLock lock(&mutex_);
    explained_ = explained;
  }
  std::vector<v1::ChatRequest> chats() const {
    absl::MutexLock lock(&mutex_);
    return chats_;
  }
  int64_t num_requests() const {
    absl::MutexLock lock(&mutex_);
    return num_requests_;
  }
  int64_t max_concurrency() const {
    absl::MutexLock lock(&mutex_);
    return max_concurrency_;
  }
  int64_t num_cancel_calls() const {
    absl::MutexLock lock(&mutex_);
    return num_cancel_calls_;
  }

 private:
  // A client's leaving raises no event here, so it is looked for.
  bool HangUntilCancelled(grpc::ServerContext* context,
                          const std::string& request_id) {
    absl::MutexLock lock(&mutex_);
    const auto is_over = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
      return cancelled_.count(request_id) > 0 || context->IsCancelled();
    };
    while (!mutex_.AwaitWithTimeout(absl::Condition(&is_over),
                                    absl::Milliseconds(5))) {
    }
    return true;
  }

  const Behaviour behaviour_;
  mutable absl::Mutex mutex_;
  std::vector<v1::ChatRequest> chats_ ABSL_GUARDED_BY(mutex_);
  v1::GetServerInfoResponse info_ ABSL_GUARDED_BY(mutex_);
  v1::ExplainResponse explained_ ABSL_GUARDED_BY(mutex_);
  int64_t num_requests_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_running_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t max_concurrency_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t num_cancel_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  std::set<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);
};

struct FakeServer::Running {
  std::unique_ptr<grpc::Server> server;
  int port = 0;
};

FakeServer::FakeServer() : FakeServer(EchoScript) {}

FakeServer::FakeServer(Behaviour behaviour)
    : service_(std::make_unique<Service>(std::move(behaviour))),
      running_(std::make_unique<Running>()) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &running_->port);
  builder.RegisterService(service_.get());
  running_->server = builder.BuildAndStart();
}

FakeServer::~FakeServer() { running_->server->Shutdown(); }

std::string FakeServer::address() const {
  return absl::StrCat("127.0.0.1:", running_->port);
}

std::vector<v1::ChatRequest> FakeServer::chats() const {
  return service_->chats();
}

int64_t FakeServer::num_requests() const { return service_->num_requests(); }

int64_t FakeServer::max_concurrency() const {
  return service_->max_concurrency();
}

int64_t FakeServer::num_cancel_calls() const {
  return service_->num_cancel_calls();
}

void FakeServer::set_explained(const v1::ExplainResponse& explained) {
  service_->set_explained(explained);
}

void FakeServer::set_info(const v1::GetServerInfoResponse& info) {
  service_->set_info(info);
}

FakeServer::Script EchoScript(const v1::GenerateRequest& request) {
  FakeServer::Script script;
  uint64_t state = request.sampling().seed();
  for (const uint32_t id : request.token_ids().ids()) state = state * 31 + id;
  const uint32_t num_tokens = request.sampling().max_tokens();
  for (uint32_t offset = 0; offset < num_tokens; ++offset) {
    const uint32_t id = static_cast<uint32_t>((state + offset * 7) % 100);
    script.responses.push_back(ChunkResponse(offset, {id}));
  }
  script.responses.push_back(
      CompleteResponse(request.token_ids().ids_size(), num_tokens));
  return script;
}

v1::GenerateResponse ChunkResponse(uint64_t token_offset,
                                   const std::vector<uint32_t>& token_ids) {
  v1::GenerateResponse response;
  response.mutable_chunk()->set_token_offset(token_offset);
  for (const uint32_t id : token_ids) {
    response.mutable_chunk()->add_token_ids(id);
    response.mutable_chunk()->mutable_text()->append(absl::StrCat(id, " "));
  }
  return response;
}

v1::GenerateResponse CompleteResponse(uint32_t num_prompt_tokens,
                                      uint32_t num_output_tokens) {
  v1::GenerateResponse response;
  v1::Usage* usage = response.mutable_complete()->mutable_usage();
  usage->set_prompt_tokens(num_prompt_tokens);
  usage->set_output_tokens(num_output_tokens);
  return response;
}

}  // namespace quire
