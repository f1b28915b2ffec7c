// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/rpc.h"

#include <gmock/gmock.h>
#include <grpcpp/channel.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/fakes/closed_port.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(RpcTest, NobodyThereIsOneLineWithTheRemedy) {
  const ClosedPort nobody;
  const std::string address = nobody.address();
  const auto channel = MakeChannel(address);
  const absl::Status status =
      WaitForServer(channel.get(), address, absl::Milliseconds(200));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(DescribeStatus(status), HasSubstr("no server answers at"));
  EXPECT_THAT(DescribeStatus(status), HasSubstr("quire serve --model DIR"));
  EXPECT_EQ(DescribeStatus(status).find('\n'), std::string::npos);
}

TEST(RpcTest, AWaitForNobodyIsTold) {
  const ClosedPort nobody;
  const auto channel = MakeChannel(nobody.address());
  std::ostringstream err;
  EXPECT_EQ(WaitForServer(channel.get(), nobody.address(),
                          absl::Milliseconds(600), &err)
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(err.str(),
            "waiting up to 600ms for a server at " + nobody.address() + "\n");
}

TEST(RpcTest, AnEmptyTargetIsNotWaitedFor) {
  const auto channel = MakeChannel("");
  const absl::Status status =
      WaitForServer(channel.get(), "", absl::InfiniteDuration());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(DescribeStatus(status), HasSubstr("--target is empty"));
}

TEST(RpcTest, DescriptionsStayOnOneLine) {
  EXPECT_EQ(DescribeStatus(absl::NotFoundError("no\nmodel")),
            "no model (NOT_FOUND)");
  EXPECT_EQ(DescribeStatus(absl::InternalError("")),
            "no reason given (INTERNAL)");
}

// As any gRPC server answers what it does not know.
TEST(RpcTest, ACallToTheWrongPortIsToldWhichIsRight) {
  EXPECT_THAT(DescribeStatus(absl::UnimplementedError("")),
              HasSubstr("`quire status` asks the control address"));
  EXPECT_EQ(DescribeStatus(absl::UnimplementedError("n is too large")),
            "n is too large (UNIMPLEMENTED)");
}

}  // namespace
}  // namespace quire
