// SPDX-License-Identifier: Apache-2.0
//
// The whole coordinator, over gRPC on free ports, with simulated workers. The
// clock stands still, so nobody is lost for being slow.
#ifndef TESTS_COORDINATOR_COORDINATOR_FIXTURE_H_
#define TESTS_COORDINATOR_COORDINATOR_FIXTURE_H_

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/wire/status_wire.h"
#include "coordinator/coordinator.h"
#include "gtest/gtest.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/inference.grpc.pb.h"
#include "tests/coordinator/dispatch/fake_worker.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {

inline std::string WriteModelFolder() {
  const std::string folder = absl::StrCat(testing::TempDir(), "/letters");
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/tokenizer.json") << LettersTokenizerJson();
  std::ofstream(folder + "/config.json") << R"({
      "architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
      "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
      "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
      "rope_theta": 10000.0, "tie_word_embeddings": true,
      "torch_dtype": "float32", "bos_token_id": 0, "eos_token_id": 28,
      "hidden_act": "silu"})";
  return folder;
}

// A rank that has joined and says so twice a second.
class FakeRank {
 public:
  // `group` is wanted; unset: any.
  FakeRank(const std::string& control_address, uint64_t instance_id,
           const FakeWorkerOptions& worker = {},
           std::optional<uint32_t> group = std::nullopt)
      : worker_(worker),
        stub_(v1::Cluster::NewStub(grpc::CreateChannel(
            control_address, grpc::InsecureChannelCredentials()))) {
    v1::RegisterRequest request;
    request.set_address(worker_.address());
    request.set_instance_id(instance_id);
    request.set_device("cpu");
    if (group.has_value()) request.set_group(*group);
    grpc::ClientContext rpc;
    const grpc::Status status = stub_->Register(&rpc, request, &seat_);
    EXPECT_TRUE(status.ok()) << status.error_message();
    beats_ = std::thread([this, instance_id] { Beat(instance_id); });
  }
  ~FakeRank() {
    stop_.Notify();
    beats_.join();
  }

  FakeWorker* worker() { return &worker_; }
  const v1::RegisterResponse& seat() const { return seat_; }

 private:
  void Beat(uint64_t instance_id) {
    grpc::ClientContext rpc;
    const auto stream = stub_->Heartbeat(&rpc);
    v1::HeartbeatRequest beat;
    v1::HeartbeatResponse response;
    beat.set_instance_id(instance_id);
    beat.set_coordinator_epoch(seat_.coordinator_epoch());
    beat.set_group_epoch(seat_.group_epoch());
    do {
      if (!stream->Write(beat) || !stream->Read(&response)) break;
    } while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(500)));
    stream->WritesDone();
    stream->Finish();
  }

  FakeWorker worker_;
  const std::unique_ptr<v1::Cluster::Stub> stub_;
  v1::RegisterResponse seat_;
  absl::Notification stop_;
  std::thread beats_;
};

class CoordinatorTest : public testing::Test {
 protected:
  static CoordinatorOptions Options() {
    CoordinatorOptions options;
    options.model = WriteModelFolder();
    options.tensor_parallel_size = 2;
    options.port = options.control_port = options.metrics_port = 0;
    options.seed = 7;
    options.engine.max_num_seqs = 16;
    return options;
  }

  void Start(const CoordinatorOptions& options) {
    CoordinatorCallbacks callbacks;
    callbacks.on_ready = [this](int32_t num_blocks,
                                const std::string& missing) {
      absl::MutexLock lock(&mutex_);
      num_blocks_ = num_blocks;
      missing_ = missing;
      ++num_ready_;
    };
    callbacks.on_lost = [this](const LostGroup& lost) {
      absl::MutexLock lock(&mutex_);
      cause_ = lost.cause;
      was_ready_ = lost.was_ready;
      num_left_ = lost.num_left;
      num_hopeful_ = lost.num_hopeful;
      ++num_lost_;
    };
    auto coordinator = Coordinator::Start(options, callbacks, &clock_);
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = *std::move(coordinator);
    inference_ = v1::Inference::NewStub(grpc::CreateChannel(
        coordinator_->public_address(), grpc::InsecureChannelCredentials()));
    cluster_ = v1::Cluster::NewStub(grpc::CreateChannel(
        coordinator_->control_address(), grpc::InsecureChannelCredentials()));
  }

  void Join(uint64_t first_instance, uint64_t num_ranks = 2) {
    ranks_.clear();
    for (uint64_t i = 0; i < num_ranks; ++i) {
      ranks_.push_back(std::make_unique<FakeRank>(
          coordinator_->control_address(), first_instance + i));
    }
  }

  // One more rank, which wants `group`.
  void JoinGroup(uint64_t instance, uint32_t group,
                 const FakeWorkerOptions& worker = {}) {
    ranks_.push_back(std::make_unique<FakeRank>(
        coordinator_->control_address(), instance, worker, group));
  }

  void Await(const int* counter, int value) {
    const auto reached = [counter, value] { return *counter >= value; };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&reached));
  }

  // Ready workers, which the engine has heard of.
  void StartReady(const CoordinatorOptions& options) {
    Start(options);
    Join(/*first_instance=*/10);
    Await(&num_ready_, 1);
    AwaitEngineReady();
  }
  void AwaitEngineReady() {
    while (!Info().ready()) std::this_thread::yield();
  }

  v1::GetServerInfoResponse Info() {
    v1::GetServerInfoResponse info;
    grpc::ClientContext rpc;
    EXPECT_TRUE(inference_->GetServerInfo(&rpc, {}, &info).ok());
    return info;
  }

  static v1::GenerateRequest Request(uint32_t max_tokens) {
    v1::GenerateRequest request;
    for (const TokenId token : {3, 1, 4, 1, 5}) {
      request.mutable_token_ids()->add_ids(token);
    }
    request.mutable_sampling()->set_max_tokens(max_tokens);
    request.mutable_sampling()->set_seed(11);
    request.mutable_sampling()->set_ignore_eos(true);
    return request;
  }

  // What the simulated workers must answer to Request(max_tokens).
  static std::vector<TokenId> Expected(int32_t max_tokens) {
    SamplingParams sampling;
    sampling.max_tokens = max_tokens;
    sampling.slot.seed = 11;
    return SimulatedStream({3, 1, 4, 1, 5}, sampling);
  }

  // Reads to the end; all tokens of the stream go to `tokens`.
  static absl::Status Read(grpc::ClientReader<v1::GenerateResponse>* reader,
                           std::vector<TokenId>* tokens) {
    v1::GenerateResponse response;
    while (reader->Read(&response)) {
      EXPECT_TRUE(response.has_complete() ||
                  response.chunk().token_offset() == tokens->size());
      tokens->insert(tokens->end(), response.chunk().token_ids().begin(),
                     response.chunk().token_ids().end());
    }
    return FromGrpcStatus(reader->Finish());
  }

  SimulatedClock clock_;
  absl::Mutex mutex_;
  int num_ready_ = 0;
  int num_lost_ = 0;
  absl::Status cause_;
  bool was_ready_ = false;
  int num_left_ = -1;
  int num_hopeful_ = -1;
  int32_t num_blocks_ = -1;
  std::string missing_;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<std::unique_ptr<FakeRank>> ranks_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Cluster::Stub> cluster_;
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_COORDINATOR_FIXTURE_H_
