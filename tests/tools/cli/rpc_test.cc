// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/rpc.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <gtest/gtest.h>

#include "tests/tools/fakes/fake_server.h"
#include "tools/cli/server_queries.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(RpcTest, NobodyThereIsOneLineWithTheRemedy) {
  std::string address;
  {
    FakeServer gone;
    address = gone.address();
  }
  const auto channel = MakeChannel(address);
  const absl::Status status =
      WaitForServer(channel.get(), address, absl::Milliseconds(200));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(DescribeStatus(status), HasSubstr("no server answers at"));
  EXPECT_THAT(DescribeStatus(status), HasSubstr("quire serve --model DIR"));
  EXPECT_EQ(DescribeStatus(status).find('\n'), std::string::npos);
}

TEST(RpcTest, QueriesBringAnswers) {
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

TEST(RpcTest, AMissingServiceIsUnimplemented) {
  FakeServer server;  // has no Cluster service
  const auto status =
      GetClusterStatus(MakeChannel(server.address()), absl::Seconds(30));
  EXPECT_EQ(status.status().code(), absl::StatusCode::kUnimplemented);
}

TEST(RpcTest, DescriptionsStayOnOneLine) {
  EXPECT_EQ(DescribeStatus(absl::NotFoundError("no\nmodel")),
            "no model (NOT_FOUND)");
  EXPECT_EQ(DescribeStatus(absl::InternalError("")),
            "no reason given (INTERNAL)");
}

}  // namespace
}  // namespace quire
