// SPDX-License-Identifier: Apache-2.0
//
// A whole cluster under load: real processes, real sockets, two ranks.
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/process_cluster.h"
#include "tests/integration/runfiles.h"
#include "tests/integration/stream.h"

namespace quire {
namespace {

class ServingTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ProcessClusterOptions options;
    options.model = ModelFolder("tools/demo_model/model");
    // Small enough that 64 sequences at once run out of blocks and preempt.
    options.coordinator_flags = {"--num_gpu_blocks_override=160",
                                 "--max_num_seqs=64",
                                 "--max_num_batched_tokens=256"};
    auto cluster = ProcessCluster::Start(options);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = cluster->release();
  }

  static void TearDownTestSuite() {
    if (cluster_ == nullptr) return;
    const absl::Status stopped = cluster_->Stop();
    EXPECT_TRUE(stopped.ok()) << stopped;
    delete cluster_;
  }

  void SetUp() override { ASSERT_NE(cluster_, nullptr); }

  // After every test, all blocks must be back.
  void TearDown() override {
    const absl::Status whole = cluster_->CheckNoLeakedBlock();
    EXPECT_TRUE(whole.ok()) << whole;
  }

  static std::unique_ptr<v1::Inference::Stub> NewStub() {
    return v1::Inference::NewStub(grpc::CreateChannel(
        cluster_->public_address(), grpc::InsecureChannelCredentials()));
  }

  static ProcessCluster* cluster_;
};

ProcessCluster* ServingTest::cluster_ = nullptr;

TEST_F(ServingTest, FiveHundredRandomRequestsSucceedAndRepeatExactly) {
  const std::string result = TempPath("loadgen.json");
  auto loadgen = Process::Start(
      {Runfile("tools/loadgen/loadgen"),
       absl::StrCat("--target=", cluster_->public_address()),
       "--dataset_name=random", "--num_prompts=500", "--random_input_len=48",
       "--random_output_len=24", "--random_range_ratio=0.9",
       "--max_concurrency=64", "--temperature=0.8", "--ignore_eos", "--verify",
       "--seed=7", "--save_result", absl::StrCat("--result_filename=", result),
       "--disable_progress"},
      TempPath("loadgen.log"));
  ASSERT_TRUE(loadgen.ok()) << loadgen.status();
  const auto code = (*loadgen)->Wait(absl::Minutes(12));
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(*code, 0) << (*loadgen)->Stderr();

  std::ifstream file(result);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  ASSERT_FALSE(json.is_discarded());
  EXPECT_EQ(json["completed"], 500);
  EXPECT_EQ(json["failed"], 0);
  EXPECT_EQ(json["differing"], 0);
}

TEST_F(ServingTest, TwoHundredCancelsAtRandomMomentsLeakNothing) {
  constexpr int kThreads = 20;
  constexpr int kCancelsEach = 10;
  std::atomic<int> cancelled{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const auto stub = NewStub();
      std::mt19937 random(thread);
      for (int i = 0; i < kCancelsEach; ++i) {
        const int64_t leave_after = random() % 40;
        // Long, so that none ends before its client has left.
        const StreamOutcome outcome = RunStream(
            *stub,
            TextRequest(absl::StrCat("Once upon a time ", random()), 1900),
            [&](grpc::ClientContext& context, int64_t num_tokens) {
              if (num_tokens >= leave_after) context.TryCancel();
            });
        EXPECT_TRUE(outcome.contiguous);
        if (outcome.status.error_code() == grpc::StatusCode::CANCELLED) {
          ++cancelled;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(cancelled, kThreads * kCancelsEach);
}

TEST_F(ServingTest, TheDeadlineEndsARequest) {
  const auto stub = NewStub();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(150));
  v1::GenerateRequest request = TextRequest("Once upon a time", 900);
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(ServingTest, ABadRequestHarmsNobodyElse) {
  const auto stub = NewStub();
  StreamOutcome good;
  std::thread neighbour([&] {
    good = RunStream(*NewStub(), TextRequest("Once upon a time", 64));
  });
  v1::GenerateRequest bad = TextRequest("Once upon a time", 64);
  bad.mutable_sampling()->set_temperature(3);
  const StreamOutcome refused = RunStream(*stub, bad);
  neighbour.join();
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_NE(refused.status.error_message().find("temperature"),
            std::string::npos);
  EXPECT_TRUE(good.complete);
  EXPECT_EQ(good.token_ids,
            RunStream(*stub, TextRequest("Once upon a time", 64)).token_ids);
}

}  // namespace
}  // namespace quire
