// SPDX-License-Identifier: Apache-2.0
//
// What clients and processes see when a part of the cluster dies: a clear
// UNAVAILABLE, and nobody left behind.
#include <grpcpp/grpcpp.h>
#include <signal.h>

#include <thread>

#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/cluster.grpc.pb.h"
#include "tests/integration/process_cluster.h"
#include "tests/integration/runfiles.h"
#include "tests/integration/stream.h"

namespace quire {
namespace {

constexpr int kNumStreams = 8;
constexpr absl::Duration kExitTimeout = absl::Seconds(120);

class FaultTest : public testing::Test {
 protected:
  void SetUp() override { Start({}); }

  void Start(ProcessClusterOptions options) {
    options.model = ModelFolder("tools/demo_model/model");
    auto cluster = ProcessCluster::Start(options);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
  }

  // Starts streams, does `harm` once each has its first tokens, and returns
  // how they ended.
  std::vector<StreamOutcome> StreamsThrough(const std::function<void()>& harm,
                                            int max_tokens = 900) {
    std::vector<StreamOutcome> outcomes(kNumStreams);
    absl::BlockingCounter started(kNumStreams);
    std::vector<std::thread> threads;
    for (int i = 0; i < kNumStreams; ++i) {
      threads.emplace_back([&, i] {
        const auto stub = v1::Inference::NewStub(grpc::CreateChannel(
            cluster_->public_address(), grpc::InsecureChannelCredentials()));
        bool counted = false;
        outcomes[i] =
            RunStream(*stub, TextRequest("Once upon a time", max_tokens),
                      [&](grpc::ClientContext&, int64_t) {
                        if (!counted) started.DecrementCount();
                        counted = true;
                      });
        if (!counted) started.DecrementCount();
      });
    }
    started.Wait();
    harm();
    for (std::thread& thread : threads) thread.join();
    return outcomes;
  }

  std::unique_ptr<ProcessCluster> cluster_;
};

TEST_F(FaultTest, AKilledRankEndsInUnavailableAndACleanExit) {
  const auto outcomes =
      StreamsThrough([&] { cluster_->worker(1).Signal(SIGKILL); });
  for (const StreamOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::UNAVAILABLE)
        << outcome.status.error_message();
    // Nearly always "rank 1": its socket closes before rank 0 misses it.
    EXPECT_THAT(outcome.status.error_message(),
                testing::ContainsRegex("rank [01] .*is lost"));
    EXPECT_FALSE(outcome.token_ids.empty());
    EXPECT_TRUE(outcome.contiguous);
    EXPECT_FALSE(outcome.complete);
  }
  const auto coordinator = cluster_->coordinator().Wait(kExitTimeout);
  ASSERT_TRUE(coordinator.ok()) << coordinator.status();
  EXPECT_EQ(*coordinator, 1);
  const auto survivor = cluster_->worker(0).Wait(kExitTimeout);
  ASSERT_TRUE(survivor.ok()) << survivor.status();
  EXPECT_EQ(*survivor, 1) << cluster_->worker(0).Stderr();
}

TEST_F(FaultTest, AKilledCoordinatorEndsInUnavailableAndNoWorkerIsLeft) {
  const auto outcomes =
      StreamsThrough([&] { cluster_->coordinator().Signal(SIGKILL); });
  for (const StreamOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.status.error_code(), grpc::StatusCode::UNAVAILABLE)
        << outcome.status.error_message();
    EXPECT_FALSE(outcome.complete);
  }
  for (int rank = 0; rank < 2; ++rank) {
    const auto worker = cluster_->worker(rank).Wait(kExitTimeout);
    ASSERT_TRUE(worker.ok()) << worker.status();
    EXPECT_EQ(*worker, 1) << cluster_->worker(rank).Stderr();
  }
}

class GroupFaultTest : public FaultTest {
 protected:
  void SetUp() override {
    ProcessClusterOptions options;
    options.tensor_parallel_size = 1;
    options.data_parallel_size = 2;
    options.coordinator_flags = {"--on_group_lost=reform"};
    Start(options);
  }

  uint32_t NumRunning(int group) const {
    const auto stub = v1::Cluster::NewStub(grpc::CreateChannel(
        cluster_->control_address(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::StatusResponse status;
    EXPECT_TRUE(stub->Status(&context, {}, &status).ok());
    return status.groups(group).num_running_requests();
  }
};

TEST_F(GroupFaultTest, AKilledGroupsStreamsGoOnInTheOtherAndItComesBack) {
  // Seconds of work: the group is lost long before its streams could end.
  constexpr int kMaxTokens = 600;
  const auto undisturbed = StreamsThrough([] {}, kMaxTokens);
  const auto disturbed = StreamsThrough(
      [&] {
        EXPECT_GT(NumRunning(/*group=*/1), 0u);
        cluster_->worker(1).Signal(SIGKILL);
      },
      kMaxTokens);
  for (int i = 0; i < kNumStreams; ++i) {
    EXPECT_TRUE(disturbed[i].status.ok())
        << disturbed[i].status.error_message();
    EXPECT_TRUE(disturbed[i].complete);
    EXPECT_TRUE(disturbed[i].contiguous);
    EXPECT_EQ(disturbed[i].token_ids, undisturbed[i].token_ids) << i;
  }
  ASSERT_TRUE(cluster_->worker(1).Wait(kExitTimeout).ok());
  const absl::Status replaced = cluster_->Replace(/*group=*/1, /*rank=*/0);
  ASSERT_TRUE(replaced.ok()) << replaced;
  // Said again when all groups are ready again.
  const auto ready =
      cluster_->coordinator().ReadLine("QUIRE_READY", absl::Seconds(120));
  ASSERT_TRUE(ready.ok()) << ready.status();
  const auto after = StreamsThrough([] {}, /*max_tokens=*/30);
  for (const StreamOutcome& outcome : after) EXPECT_TRUE(outcome.complete);
  const absl::Status whole = cluster_->CheckNoLeakedBlock();
  EXPECT_TRUE(whole.ok()) << whole;
  const absl::Status stopped = cluster_->Stop();
  EXPECT_TRUE(stopped.ok()) << stopped;
}

TEST_F(FaultTest, SigtermWhileServingEndsEveryProcess) {
  const auto outcomes = StreamsThrough(
      [&] {
        const absl::Status stopped = cluster_->Stop();
        EXPECT_TRUE(stopped.ok()) << stopped;
      },
      /*max_tokens=*/100);
  for (const StreamOutcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    EXPECT_TRUE(outcome.complete);
  }
}

}  // namespace
}  // namespace quire
