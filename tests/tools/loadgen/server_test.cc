// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST(LoadTargetTest, PicksTheFirstModelWithoutAName) {
  FakeServer server;
  RealClock clock;
  LoadTarget target(server.address(), &clock);
  ASSERT_TRUE(target.AwaitReady(absl::Seconds(30)).ok());
  EXPECT_EQ(target.FindModel("")->name(), "fake");
  EXPECT_EQ(target.FindModel("fake")->vocab_size(), 100);
}

TEST(LoadTargetTest, MissingBlocksAreDataLoss) {
  FakeServer server;
  v1::GetServerInfoResponse info;
  info.set_num_blocks(10);
  info.set_num_free_blocks(7);
  info.set_num_cached_blocks(2);
  server.set_info(info);
  RealClock clock;
  LoadTarget target(server.address(), &clock);
  const auto blocks = target.CheckBlocks(absl::ZeroDuration());
  EXPECT_EQ(blocks.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(blocks.status().message()),
              HasSubstr("7 free + 2 cached of 10"));
}

TEST(LoadTargetTest, CachedBlocksAreNotMissing) {
  FakeServer server;
  v1::GetServerInfoResponse info;
  info.set_num_blocks(10);
  info.set_num_free_blocks(7);
  info.set_num_cached_blocks(3);
  server.set_info(info);
  RealClock clock;
  LoadTarget target(server.address(), &clock);
  EXPECT_EQ(target.CheckBlocks(absl::ZeroDuration()).value(),
            "Blocks after the run: 7 free + 3 cached == 10");
}

TEST(LoadTargetTest, RequestsThatStayAreNamed) {
  FakeServer server;
  v1::GetServerInfoResponse info;
  info.set_num_running_requests(2);
  server.set_info(info);
  RealClock clock;
  LoadTarget target(server.address(), &clock);
  EXPECT_EQ(target.CheckBlocks(absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(LoadTargetTest, AnInterruptEndsTheWait) {
  FakeServer server;
  v1::GetServerInfoResponse info;
  info.set_ready(false);
  server.set_info(info);
  RealClock clock;
  LoadTarget target(server.address(), &clock);
  target.Interrupt();
  EXPECT_EQ(target.AwaitReady(absl::Minutes(5)).code(),
            absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace quire
