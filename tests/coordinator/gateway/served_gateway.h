// SPDX-License-Identifier: Apache-2.0
//
// The public service over real gRPC on a free port, with an engine whose
// tokens a test writes.
#ifndef TESTS_COORDINATOR_GATEWAY_SERVED_GATEWAY_H_
#define TESTS_COORDINATOR_GATEWAY_SERVED_GATEWAY_H_

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <prometheus/registry.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/metrics/request_metrics.h"
#include "common/wire/status_wire.h"
#include "coordinator/gateway/call_queues.h"
#include "coordinator/gateway/gateway_context.h"
#include "coordinator/gateway/inference_service.h"
#include "coordinator/grpc_server.h"
#include "gtest/gtest.h"
#include "proto/inference.grpc.pb.h"
#include "tests/coordinator/gateway/fake_engine.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {

// Everything that one Generate call received.
struct Received {
  std::string text;
  std::vector<uint32_t> tokens;
  std::vector<v1::Chunk> chunks;
  std::optional<v1::Complete> complete;
  std::string request_id;
  absl::Status status;
};

// A test's gateway, its server and a stub.
class ServedGateway : public testing::Test {
 protected:
  ServedGateway()
      : tokenizer_(MakeLettersTokenizer()),
        metrics_("letters", &registry_),
        queues_(/*num_lanes=*/2, /*num_arrival_threads=*/2),
        router_(queues_.gates()),
        engine_(&router_),
        text_pool_(/*num_threads=*/1, /*max_queued=*/8) {
    gateway_.clock = &clock_;
    gateway_.engine = &engine_;
    gateway_.tokenizer = tokenizer_.get();
    gateway_.router = &router_;
    gateway_.sessions = &sessions_;
    gateway_.text_pool = &text_pool_;
    gateway_.metrics = &metrics_;
    gateway_.seed = 5;
    gateway_.limits.model_name = "letters";
    gateway_.limits.vocab_size = kLettersVocabSize;
    gateway_.limits.max_model_len = 50'000;
    gateway_.limits.eos_token_ids = {kEosToken};
    gateway_.limits.max_text_bytes = 100'000;
    gateway_.facts.tensor_parallel_size = 2;
    gateway_.facts.flags = {{"block_size", "16"}};
    service_ = MakeInferenceService(&gateway_, &queues_);
    auto server = GrpcServer::Start(
        GrpcServer::Audience::kPublic, "127.0.0.1",
        /*port=*/0, "port", {{"quire.v1.Inference", service_->service()}},
        &queues_);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    service_->TakeCalls();
    stub_ = NewStub({});
  }

  std::unique_ptr<v1::Inference::Stub> NewStub(
      const grpc::ChannelArguments& args) {
    return v1::Inference::NewStub(grpc::CreateCustomChannel(
        "127.0.0.1:" + std::to_string(server_->port()),
        grpc::InsecureChannelCredentials(), args));
  }

  static v1::GenerateRequest Request(const std::string& text) {
    v1::GenerateRequest request;
    request.set_text(text);
    return request;
  }

  static SequenceOutput Output(uint64_t number, int64_t offset,
                               const std::string& text,
                               FinishReason reason = FinishReason::kNone) {
    SequenceOutput output;
    output.request = RequestKey(number);
    output.token_offset = offset;
    const std::vector<TokenId> tokens = Letters(text);
    output.tokens.assign(tokens.begin(), tokens.end());
    output.finish_reason = reason;
    return output;
  }

  static Received ReadAll(grpc::ClientReader<v1::GenerateResponse>* reader) {
    Received received;
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      received.request_id = response.request_id();
      if (response.has_complete()) received.complete = response.complete();
      if (!response.has_chunk()) continue;
      const v1::Chunk& chunk = response.chunk();
      EXPECT_EQ(chunk.token_offset(), received.tokens.size());
      received.text += chunk.text();
      received.tokens.insert(received.tokens.end(), chunk.token_ids().begin(),
                             chunk.token_ids().end());
      received.chunks.push_back(chunk);
    }
    received.status = FromGrpcStatus(reader->Finish());
    return received;
  }

  // The whole answer to a request that the engine never sees or has answered.
  Received Generate(const v1::GenerateRequest& request) {
    grpc::ClientContext rpc;
    return ReadAll(stub_->Generate(&rpc, request).get());
  }

  // Sessions leave the table when gRPC is done with them.
  void AwaitNoSessions() {
    while (sessions_.size() > 0) std::this_thread::yield();
  }

  RealClock clock_;
  prometheus::Registry registry_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  RequestMetrics metrics_;
  CallQueues queues_;
  OutputRouter router_;
  FakeEngine engine_;
  SessionTable sessions_;
  TextPool text_pool_;
  GatewayContext gateway_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_GATEWAY_SERVED_GATEWAY_H_
