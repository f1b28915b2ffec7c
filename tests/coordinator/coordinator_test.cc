// SPDX-License-Identifier: Apache-2.0
//
// From joining to tokens, and what becomes of requests when workers are lost.
#include "coordinator/coordinator.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/wire/error_details.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/coordinator_fixture.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

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

}  // namespace
}  // namespace quire
