// SPDX-License-Identifier: Apache-2.0
//
// The whole coordinator, over gRPC on free ports, with simulated workers: from
// joining to tokens, and what becomes of requests when workers are lost. The
// clock stands still, so nobody is lost for being slow.
#include "coordinator/coordinator.h"

#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/wire/error_details.h"
#include "common/wire/status_wire.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cluster.grpc.pb.h"
#include "proto/inference.grpc.pb.h"
#include "tests/coordinator/dispatch/fake_worker.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

std::string WriteModelFolder() {
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
  FakeRank(const std::string& control_address, uint64_t instance_id,
           const FakeWorkerOptions& worker = {})
      : worker_(worker),
        stub_(v1::Cluster::NewStub(grpc::CreateChannel(
            control_address, grpc::InsecureChannelCredentials()))) {
    v1::RegisterRequest request;
    request.set_address(worker_.address());
    request.set_instance_id(instance_id);
    request.set_device("cpu");
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
    callbacks.on_ready = [this](int32_t /*num_blocks*/) {
      absl::MutexLock lock(&mutex_);
      ++num_ready_;
    };
    callbacks.on_lost = [this](const LostGroup& lost) {
      absl::MutexLock lock(&mutex_);
      cause_ = lost.cause;
      was_ready_ = lost.was_ready;
      num_left_ = lost.num_left;
      num_others_ready_ = lost.num_ready;
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
  int num_others_ready_ = -1;
  std::unique_ptr<Coordinator> coordinator_;
  std::vector<std::unique_ptr<FakeRank>> ranks_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::Cluster::Stub> cluster_;
};

TEST_F(CoordinatorTest, WarnsOfATemplateThatCannotBeUsed) {
  CoordinatorOptions options = Options();
  Start(options);
  EXPECT_EQ(coordinator_->warning(), "");
  options.model = absl::StrCat(testing::TempDir(), "/mute");
  std::filesystem::remove_all(options.model);
  std::filesystem::copy(Options().model, options.model);
  std::ofstream(options.model + "/chat_template.jinja") << "one\n{% if %}";
  Start(options);
  EXPECT_THAT(coordinator_->warning(), HasSubstr("line 2"));
}

TEST_F(CoordinatorTest, ServesManyRequestsAndGivesEveryBlockBack) {
  StartReady(Options());
  constexpr int kRequests = 20;
  std::vector<std::thread> clients;
  for (int i = 0; i < kRequests; ++i) {
    clients.emplace_back([this, i] {
      grpc::ClientContext rpc;
      std::vector<TokenId> tokens;
      const auto reader = inference_->Generate(&rpc, Request(1 + 3 * i));
      EXPECT_TRUE(Read(reader.get(), &tokens).ok());
      EXPECT_EQ(tokens, Expected(1 + 3 * i));
    });
  }
  for (std::thread& client : clients) client.join();
  v1::StatusResponse status;
  do {  // the last blocks come back with the next plan
    grpc::ClientContext rpc;
    ASSERT_TRUE(cluster_->Status(&rpc, {}, &status).ok());
  } while (status.groups(0).num_free_blocks() +
               status.groups(0).num_cached_blocks() !=
           64);
  EXPECT_EQ(status.num_finished_requests(), kRequests);
  EXPECT_EQ(status.groups(0).state(), v1::GROUP_STATE_READY);
  EXPECT_EQ(status.groups(0).ranks_size(), 2);
  EXPECT_EQ(status.model(), "letters");
  EXPECT_EQ(num_lost_, 0);
}

TEST_F(CoordinatorTest, RefusesRequestsUntilWorkersAreReady) {
  Start(Options());
  EXPECT_FALSE(Info().ready());
  grpc::ClientContext rpc;
  std::vector<TokenId> tokens;
  const auto reader = inference_->Generate(&rpc, Request(4));
  const absl::Status status = Read(reader.get(), &tokens);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetErrorDetails(status).reason, "NO_READY_WORKERS");
  EXPECT_TRUE(GetErrorDetails(status).retry_delay.has_value());
}

TEST_F(CoordinatorTest, LostRankEndsItsStreams) {
  StartReady(Options());
  ranks_[1]->worker()->StopAnswering();
  grpc::ClientContext rpc;
  std::vector<TokenId> tokens;
  const auto reader = inference_->Generate(&rpc, Request(100));
  ranks_[1]->worker()->AwaitPlans(1);
  ranks_[1]->worker()->EndRun(absl::UnavailableError("rank 0 is gone"));
  const absl::Status status = Read(reader.get(), &tokens);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetErrorDetails(status).reason, "WORKER_LOST");
  Await(&num_lost_, 1);
  EXPECT_TRUE(was_ready_);
  EXPECT_THAT(std::string(cause_.message()), HasSubstr("rank 1"));
  EXPECT_FALSE(Info().ready());
}

TEST_F(CoordinatorTest, ReformedGroupGoesOnWhereTheLostOneStopped) {
  CoordinatorOptions options = Options();
  options.reform_lost_groups = true;
  StartReady(options);
  ranks_[1]->worker()->StopAnsweringAfter(5);
  grpc::ClientContext rpc;
  std::vector<TokenId> tokens;
  const auto reader = inference_->Generate(&rpc, Request(100));
  ranks_[1]->worker()->AwaitPlans(6);
  ranks_[1]->worker()->EndRun(absl::UnavailableError("hardware"));
  Await(&num_lost_, 1);
  Join(/*first_instance=*/20);
  EXPECT_EQ(ranks_[0]->seat().group_epoch(), 2u);
  EXPECT_TRUE(Read(reader.get(), &tokens).ok());
  EXPECT_EQ(tokens, Expected(100));
}

TEST_F(CoordinatorTest, AnotherGroupTakesTheRequestsOfALostOne) {
  CoordinatorOptions options = Options();
  options.data_parallel_size = 2;
  Start(options);
  Join(/*first_instance=*/10, /*num_ranks=*/4);
  Await(&num_ready_, 1);  // when both are
  AwaitEngineReady();
  EXPECT_EQ(Info().num_blocks(), 64u);  // two halves of a machine's memory
  EXPECT_EQ(Info().data_parallel_size(), 2u);
  // Nobody's first token comes before there are requests in both groups, so
  // none ends and leaves the first group free for the next.
  ranks_[0]->worker()->HoldAnswers();
  ranks_[2]->worker()->StopAnswering();
  constexpr int kRequests = 6;
  std::vector<std::thread> clients;
  for (int i = 0; i < kRequests; ++i) {
    clients.emplace_back([this, i] {
      grpc::ClientContext rpc;
      std::vector<TokenId> tokens;
      const auto reader = inference_->Generate(&rpc, Request(50 + 10 * i));
      const absl::Status status = Read(reader.get(), &tokens);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(tokens, Expected(50 + 10 * i));
    });
  }
  ranks_[2]->worker()->AwaitPlans(1);
  ranks_[2]->worker()->EndRun(absl::UnavailableError("rank 1 is gone"));
  Await(&num_lost_, 1);
  ranks_[0]->worker()->ReleaseAnswers();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(num_left_, 1);
  EXPECT_TRUE(Info().ready());
  v1::StatusResponse status;
  do {
    grpc::ClientContext rpc;
    ASSERT_TRUE(cluster_->Status(&rpc, {}, &status).ok());
  } while (status.groups(0).num_free_blocks() +
               status.groups(0).num_cached_blocks() !=
           32);
  EXPECT_EQ(status.num_finished_requests(), kRequests);
  EXPECT_EQ(status.groups(0).ranks_size(), 2);
  EXPECT_EQ(status.groups(1).state(), v1::GROUP_STATE_DEAD);
  EXPECT_EQ(status.groups(1).num_running_requests(), 0u);
}

TEST_F(CoordinatorTest, DrainLetsRunningRequestsEnd) {
  StartReady(Options());
  grpc::ClientContext rpc, drain_rpc, late_rpc;
  std::vector<TokenId> tokens;
  const auto reader = inference_->Generate(&rpc, Request(50));
  ranks_[0]->worker()->AwaitPlans(1);
  v1::DrainResponse drained;
  ASSERT_TRUE(cluster_->Drain(&drain_rpc, {}, &drained).ok());
  EXPECT_EQ(drained.num_aborted(), 0u);
  EXPECT_TRUE(Read(reader.get(), &tokens).ok());
  EXPECT_EQ(tokens, Expected(50));
  const auto late = inference_->Generate(&late_rpc, Request(1));
  EXPECT_EQ(GetErrorDetails(Read(late.get(), &tokens)).reason, "DRAINING");
}

TEST_F(CoordinatorTest, ServesTokenIdsWithoutATokenizer) {
  CoordinatorOptions options = Options();
  options.skip_tokenizer_init = true;
  StartReady(options);
  grpc::ClientContext rpc, text_rpc;
  v1::GenerateRequest request = Request(3);
  request.mutable_token_ids()->set_ids(0, 999);  // any id of the logits
  std::vector<TokenId> tokens;
  EXPECT_TRUE(Read(inference_->Generate(&rpc, request).get(), &tokens).ok());
  EXPECT_EQ(tokens.size(), 3u);
  request.set_text("hello");
  EXPECT_EQ(
      Read(inference_->Generate(&text_rpc, request).get(), &tokens).code(),
      absl::StatusCode::kInvalidArgument);
}

TEST_F(CoordinatorTest, StartsOnlyWithWhatCanWork) {
  CoordinatorOptions options = Options();
  const auto start = [&] {
    return Coordinator::Start(options, {}, &clock_).status();
  };
  options.tensor_parallel_size = 3;
  EXPECT_THAT(std::string(start().message()), HasSubstr("1, 2, 4"));
  options = Options();
  options.max_model_len = 513;
  EXPECT_THAT(std::string(start().message()), HasSubstr("512 positions"));
  options = Options();
  options.model = "/nonexistent";
  EXPECT_EQ(start().code(), absl::StatusCode::kNotFound);
  options = Options();
  options.engine.kv_manager = "none";
  EXPECT_EQ(start().code(), absl::StatusCode::kInvalidArgument);

  Start(Options());
  const std::string address = coordinator_->public_address();
  options = Options();
  options.port = std::atoi(address.substr(address.rfind(':') + 1).c_str());
  EXPECT_EQ(start().code(), absl::StatusCode::kUnavailable);
  options = Options();
  const std::string metrics = coordinator_->metrics_address();
  options.metrics_port =
      std::atoi(metrics.substr(metrics.rfind(':') + 1).c_str());
  EXPECT_THAT(std::string(start().message()), HasSubstr("--metrics_port"));
}

TEST_F(CoordinatorTest, AGroupThatCannotFormAgainLeavesTheOtherServing) {
  CoordinatorOptions options = Options();
  options.tensor_parallel_size = 1;
  options.data_parallel_size = 2;
  options.reform_lost_groups = true;
  Start(options);
  Join(/*first_instance=*/10, /*num_ranks=*/2);
  Await(&num_ready_, 1);
  ranks_[1]->worker()->EndRun(absl::UnavailableError("hardware"));
  Await(&num_lost_, 1);
  FakeWorkerOptions corrupt;
  corrupt.load_status = absl::DataLossError("a shard is truncated");
  ranks_.push_back(std::make_unique<FakeRank>(coordinator_->control_address(),
                                              /*instance_id=*/20, corrupt));
  Await(&num_lost_, 2);
  EXPECT_EQ(cause_.code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(was_ready_);
  EXPECT_EQ(num_others_ready_, 1);
  grpc::ClientContext rpc;
  std::vector<TokenId> tokens;
  EXPECT_TRUE(
      Read(inference_->Generate(&rpc, Request(30)).get(), &tokens).ok());
  EXPECT_EQ(tokens, Expected(30));
}

}  // namespace
}  // namespace quire
