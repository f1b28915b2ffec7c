// SPDX-License-Identifier: Apache-2.0
//
// Several groups behind one coordinator: what one's loss, or that it cannot
// begin, is to the others.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/coordinator.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/coordinator_fixture.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

using CoordinatorGroupsTest = CoordinatorTest;

FakeWorkerOptions Corrupt() {
  FakeWorkerOptions corrupt;
  corrupt.load_status = absl::DataLossError("a shard is truncated");
  return corrupt;
}

// Two groups of a rank.
CoordinatorOptions TwoGroups(CoordinatorOptions options) {
  options.tensor_parallel_size = 1;
  options.data_parallel_size = 2;
  options.reform_lost_groups = true;
  return options;
}

TEST_F(CoordinatorGroupsTest, AnotherGroupTakesTheRequestsOfALostOne) {
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

TEST_F(CoordinatorGroupsTest, AGroupThatCannotFormAgainLeavesTheOtherServing) {
  Start(TwoGroups(Options()));
  Join(/*first_instance=*/10, /*num_ranks=*/2);
  Await(&num_ready_, 1);
  ranks_[1]->worker()->EndRun(absl::UnavailableError("hardware"));
  Await(&num_lost_, 1);
  JoinGroup(/*instance=*/20, ranks_[1]->seat().group(), Corrupt());
  Await(&num_lost_, 2);
  EXPECT_EQ(cause_.code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(was_ready_);
  EXPECT_EQ(num_hopeful_, 1);
  grpc::ClientContext rpc;
  std::vector<TokenId> tokens;
  EXPECT_TRUE(
      Read(inference_->Generate(&rpc, Request(30)).get(), &tokens).ok());
  EXPECT_EQ(tokens, Expected(30));
}

TEST_F(CoordinatorGroupsTest, AGroupThatCannotBeginLeavesTheOtherToBegin) {
  Start(TwoGroups(Options()));
  JoinGroup(/*instance=*/10, /*group=*/1, Corrupt());
  Await(&num_lost_, 1);
  EXPECT_THAT(std::string(cause_.message()), StartsWith("group 1: rank 0 ("));
  EXPECT_EQ(num_hopeful_, 1);
  EXPECT_FALSE(Info().ready());
  JoinGroup(/*instance=*/11, /*group=*/0);
  Await(&num_ready_, 1);
  EXPECT_THAT(missing_, StartsWith("group 1: rank 0 ("));
  EXPECT_THAT(missing_, HasSubstr("a shard is truncated"));
  EXPECT_EQ(num_blocks_, 32);
  grpc::ClientContext rpc;
  std::vector<TokenId> tokens;
  EXPECT_TRUE(
      Read(inference_->Generate(&rpc, Request(30)).get(), &tokens).ok());
  EXPECT_EQ(tokens, Expected(30));
  // Somebody has mended it.
  JoinGroup(/*instance=*/12, /*group=*/1);
  Await(&num_ready_, 2);
  EXPECT_EQ(missing_, "");
  EXPECT_EQ(num_blocks_, 64);
}

TEST_F(CoordinatorGroupsTest, AServerIsReadyWhenItsLastGroupHasFailed) {
  Start(TwoGroups(Options()));
  JoinGroup(/*instance=*/10, /*group=*/0);
  while (!Info().ready()) std::this_thread::yield();
  JoinGroup(/*instance=*/11, /*group=*/1, Corrupt());
  Await(&num_ready_, 1);
  EXPECT_THAT(missing_, StartsWith("group 1: rank 0 ("));
  EXPECT_EQ(num_blocks_, 32);
}

TEST_F(CoordinatorGroupsTest, NoHopeIsLeftWhenNoGroupCanBegin) {
  Start(TwoGroups(Options()));
  JoinGroup(/*instance=*/10, /*group=*/0, Corrupt());
  JoinGroup(/*instance=*/11, /*group=*/1, Corrupt());
  Await(&num_lost_, 2);
  EXPECT_EQ(num_hopeful_, 0);
  EXPECT_EQ(num_ready_, 0);
}

}  // namespace
}  // namespace quire
