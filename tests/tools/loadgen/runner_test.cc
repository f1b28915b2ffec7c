// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/runner.h"

#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

std::vector<PlannedCall> Calls(int64_t num, absl::Duration gap) {
  std::vector<PlannedCall> calls;
  for (int64_t idx = 0; idx < num; ++idx) {
    PlannedCall planned;
    planned.arrival = idx * gap;
    planned.call.idx = idx;
    planned.call.request.set_request_id(absl::StrCat("run-", idx));
    planned.call.request.mutable_sampling()->set_max_tokens(3);
    calls.push_back(std::move(planned));
  }
  return calls;
}

class LoadRunnerTest : public testing::Test {
 protected:
  RunResult Run(const FakeServer& server, std::vector<PlannedCall> calls,
                int64_t max_concurrency) {
    LoadClient client(server.address(), /*num_channels=*/2, &clock_);
    LoadRunner runner(&client, &clock_, /*progress=*/nullptr);
    return runner.Run(std::move(calls), max_concurrency);
  }

  RealClock clock_;
};

TEST_F(LoadRunnerTest, RecordsEveryRequestInOrder) {
  FakeServer server;
  const RunResult result =
      Run(server, Calls(30, absl::ZeroDuration()), /*max_concurrency=*/0);
  ASSERT_EQ(result.records.size(), 30);
  EXPECT_FALSE(result.is_interrupted);
  for (int64_t idx = 0; idx < 30; ++idx) {
    const RequestRecord& record = result.records[idx];
    EXPECT_EQ(record.idx, idx);
    EXPECT_EQ(record.outcome, RequestOutcome::kCompleted) << record.error;
    EXPECT_EQ(record.arrival, result.start);
    EXPECT_GE(record.sent, record.arrival);
    EXPECT_LE(record.end, result.end);
  }
}

TEST_F(LoadRunnerTest, SendsNothingBeforeItsTime) {
  FakeServer server;
  const RunResult result =
      Run(server, Calls(5, absl::Milliseconds(3)), /*max_concurrency=*/0);
  ASSERT_EQ(result.records.size(), 5);
  for (int64_t idx = 0; idx < 5; ++idx) {
    const RequestRecord& record = result.records[idx];
    EXPECT_EQ(record.arrival, result.start + idx * absl::Milliseconds(3));
    EXPECT_GE(record.sent, record.arrival);
  }
}

TEST_F(LoadRunnerTest, NeverHasMoreInFlightThanAllowed) {
  FakeServer server;
  const RunResult result =
      Run(server, Calls(40, absl::ZeroDuration()), /*max_concurrency=*/3);
  EXPECT_EQ(result.records.size(), 40);
  EXPECT_LE(server.max_concurrency(), 3);
}

TEST_F(LoadRunnerTest, AnInterruptEndsWhatRunsAndSendsNoMore) {
  absl::Notification first_sent;
  FakeServer server([&](const v1::GenerateRequest&) {
    if (!first_sent.HasBeenNotified()) first_sent.Notify();
    return FakeServer::Script{.hangs = true};
  });
  LoadClient client(server.address(), /*num_channels=*/1, &clock_);
  LoadRunner runner(&client, &clock_, /*progress=*/nullptr);
  std::thread interrupter([&] {
    first_sent.WaitForNotification();
    runner.Interrupt();
  });
  const RunResult result =
      runner.Run(Calls(10, absl::ZeroDuration()), /*max_concurrency=*/1);
  interrupter.join();
  EXPECT_TRUE(result.is_interrupted);
  ASSERT_EQ(result.records.size(), 1);
  EXPECT_EQ(result.records[0].outcome, RequestOutcome::kFailed);
}

TEST_F(LoadRunnerTest, ShowsItsProgress) {
  FakeServer server;
  std::ostringstream out;
  Progress progress("requests", Progress::Unit::kCount, ProgressStyle::kPlain,
                    &out, &clock_);
  LoadClient client(server.address(), /*num_channels=*/1, &clock_);
  LoadRunner runner(&client, &clock_, &progress);
  runner.Run(Calls(4, absl::ZeroDuration()), /*max_concurrency=*/1);
  EXPECT_NE(out.str().find("100% 4/4"), std::string::npos) << out.str();
}

}  // namespace
}  // namespace quire
