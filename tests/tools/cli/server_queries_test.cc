// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/server_queries.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/tools/fakes/fake_server.h"
#include "tools/cli/rpc.h"

namespace quire {
namespace {

TEST(ServerQueriesTest, QueriesBringAnswers) {
  FakeServer server;
  const auto channel = MakeChannel(server.address());
  ASSERT_TRUE(
      WaitForServer(channel.get(), server.address(), absl::Seconds(30)).ok());
  const auto info = GetServerInfo(channel, absl::Seconds(30));
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->model(), "fake");
  const auto models = ListModels(channel, absl::Seconds(30));
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->models_size(), 1);
  EXPECT_EQ(models->models(0).vocab_size(), 100);
}

TEST(ServerQueriesTest, AMissingServiceIsUnimplemented) {
  FakeServer server;  // has no Cluster service
  const auto status =
      GetClusterStatus(MakeChannel(server.address()), absl::Seconds(30));
  EXPECT_EQ(status.status().code(), absl::StatusCode::kUnimplemented);
}

TEST(ServerQueriesTest, ARequestIsExplainedByItsNameAlone) {
  FakeServer server;
  v1::ExplainResponse explained;
  explained.set_request_id("slow");
  server.set_explained(explained);
  const auto channel = MakeChannel(server.address());
  const auto known = ExplainRequest(channel, "slow", absl::Seconds(30));
  ASSERT_TRUE(known.ok()) << known.status();
  EXPECT_EQ(known->request_id(), "slow");
  const auto other = ExplainRequest(channel, "other", absl::Seconds(30));
  EXPECT_EQ(other.status().code(), absl::StatusCode::kNotFound);
}

TEST(ServerQueriesTest, AQuestionIsGivenUpAtItsTimeout) {
  FakeServer server;
  const auto channel = MakeChannel(server.address());
  const auto info = GetServerInfo(channel, -absl::Seconds(1));
  EXPECT_EQ(info.status().code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace quire
