// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "tests/fakes/closed_port.h"
#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

// Whoever waits on it finds that the time has passed.
class HastyClock final : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  bool AwaitUntil(absl::Mutex*, const absl::Condition& condition,
                  absl::Time deadline) override {
    now_ = std::max(now_, deadline);
    return condition.Eval();
  }

 private:
  absl::Time now_ = absl::UnixEpoch();
};

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

TEST(LoadTargetTest, AWaitForNobodyIsToldAndEndsWithTheRemedy) {
  const ClosedPort nobody;
  HastyClock clock;
  LoadTarget target(nobody.address(), &clock);
  std::ostringstream err;
  const absl::Status status = target.AwaitReady(absl::Seconds(1), &err);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(nobody.address()));
  EXPECT_THAT(std::string(status.message()), HasSubstr("--target"));
  EXPECT_EQ(err.str(),
            "waiting up to 1s for a server at " + nobody.address() + "\n");
}

TEST(LoadTargetTest, AWaitForWorkersIsToldAndEndsWithTheRemedy) {
  FakeServer server;
  HastyClock clock;
  LoadTarget target(server.address(), &clock);
  ASSERT_TRUE(target.AwaitReady(absl::Hours(1)).ok());  // connects
  v1::GetServerInfoResponse info;
  info.set_ready(false);
  server.set_info(info);
  std::ostringstream err;
  const absl::Status status = target.AwaitReady(absl::Seconds(1), &err);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("`quire status`"));
  EXPECT_EQ(err.str(), "waiting up to 1s for the workers of the server at " +
                           server.address() + "\n");
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
