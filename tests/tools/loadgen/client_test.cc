// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tests/tools/fakes/fake_server.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

LoadCall Call(int64_t idx, uint32_t num_tokens) {
  LoadCall call;
  call.idx = idx;
  call.request.set_request_id(absl::StrCat("call-", idx));
  call.request.mutable_token_ids()->add_ids(3);
  call.request.mutable_sampling()->set_max_tokens(num_tokens);
  return call;
}

// Two tokens, then silence until somebody cancels.
FakeServer::Script HangingScript(const v1::GenerateRequest&) {
  return {.responses = {ChunkResponse(0, {1}), ChunkResponse(1, {2})},
          .hangs = true};
}

// Sends the calls at once and returns their records when all have ended.
std::vector<RequestRecord> SendAll(const FakeServer& server,
                                   std::vector<LoadCall> calls) {
  RealClock clock;
  absl::Mutex mutex;
  std::vector<RequestRecord> records;
  {
    LoadClient client(server.address(), /*num_channels=*/2, &clock);
    for (LoadCall& call : calls) {
      client.Start(std::move(call), [&](RequestRecord record) {
        absl::MutexLock lock(&mutex);
        records.push_back(std::move(record));
      });
    }
  }  // waits for all
  return records;
}

TEST(LoadClientTest, StreamsManyRequestsAtOnce) {
  FakeServer server;
  std::vector<LoadCall> calls;
  for (int64_t idx = 0; idx < 50; ++idx) calls.push_back(Call(idx, 5));
  const std::vector<RequestRecord> records = SendAll(server, std::move(calls));
  ASSERT_EQ(records.size(), 50);
  for (const RequestRecord& record : records) {
    EXPECT_EQ(record.outcome, RequestOutcome::kCompleted) << record.error;
    EXPECT_EQ(record.num_output_tokens(), 5);
    EXPECT_EQ(record.num_prompt_tokens, 1);
    EXPECT_LE(record.sent, record.arrivals.front().time);
    EXPECT_LE(record.arrivals.back().time, record.end);
  }
  EXPECT_EQ(server.num_requests(), 50);
}

TEST(LoadClientTest, ConnectsBeforeTheFirstRequest) {
  RealClock clock;
  std::string address;
  {
    FakeServer server;
    address = server.address();
    LoadClient client(address, /*num_channels=*/3, &clock);
    EXPECT_TRUE(client.Connect(absl::Seconds(60)));
    EXPECT_EQ(server.num_requests(), 0);
  }
  LoadClient client(address, /*num_channels=*/1, &clock);
  EXPECT_FALSE(client.Connect(absl::Milliseconds(50)));  // nobody listens
}

TEST(LoadClientTest, AnErrorStatusFailsTheRequest) {
  FakeServer server([](const v1::GenerateRequest&) {
    return FakeServer::Script{.responses = {ChunkResponse(0, {1})},
                              .code = 8,  // RESOURCE_EXHAUSTED
                              .message = "the queue is full"};
  });
  const std::vector<RequestRecord> records = SendAll(server, {Call(0, 5)});
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].outcome, RequestOutcome::kFailed);
  EXPECT_EQ(records[0].error, "the queue is full (RESOURCE_EXHAUSTED)");
}

TEST(LoadClientTest, AGapFailsTheRequestAndEndsIt) {
  FakeServer server([](const v1::GenerateRequest&) {
    return FakeServer::Script{
        .responses = {ChunkResponse(0, {1}), ChunkResponse(2, {2})},
        .hangs = true};
  });
  const std::vector<RequestRecord> records = SendAll(server, {Call(0, 5)});
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].outcome, RequestOutcome::kFailed);
  EXPECT_THAT(records[0].error, HasSubstr("gap"));
}

TEST(LoadClientTest, LeavesAfterTheTokensOfItsPlan) {
  FakeServer server(HangingScript);
  LoadCall call = Call(0, 100);
  call.cancel = CancelPlan{.after_tokens = 2};
  const std::vector<RequestRecord> records = SendAll(server, {std::move(call)});
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].outcome, RequestOutcome::kCancelled);
  EXPECT_EQ(records[0].num_output_tokens(), 2);
  EXPECT_EQ(server.num_cancel_calls(), 0);
}

TEST(LoadClientTest, CancelsByCall) {
  FakeServer server(HangingScript);
  LoadCall call = Call(0, 100);
  call.cancel = CancelPlan{.after_tokens = 1, .by_call = true};
  const std::vector<RequestRecord> records = SendAll(server, {std::move(call)});
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].outcome, RequestOutcome::kCancelled);
  EXPECT_EQ(server.num_cancel_calls(), 1);
}

TEST(LoadClientTest, CancelsAsSoonAsItIsSent) {
  FakeServer server(HangingScript);
  std::vector<LoadCall> calls;
  for (int64_t idx = 0; idx < 40; ++idx) {
    calls.push_back(Call(idx, 100));
    calls.back().cancel = CancelPlan{.by_call = idx % 2 == 0};
  }
  const std::vector<RequestRecord> records = SendAll(server, std::move(calls));
  ASSERT_EQ(records.size(), 40);
  for (const RequestRecord& record : records) {
    EXPECT_EQ(record.outcome, RequestOutcome::kCancelled) << record.error;
  }
}

TEST(LoadClientTest, TheDeadlineEndsARequest) {
  FakeServer server(HangingScript);
  LoadCall call = Call(0, 100);
  call.timeout = absl::Milliseconds(50);
  const std::vector<RequestRecord> records = SendAll(server, {std::move(call)});
  ASSERT_EQ(records.size(), 1);
  EXPECT_EQ(records[0].outcome, RequestOutcome::kFailed);
  EXPECT_THAT(records[0].error, HasSubstr("DEADLINE_EXCEEDED"));
}

TEST(LoadClientTest, CancelAllEndsEverything) {
  FakeServer server(HangingScript);
  RealClock clock;
  absl::Mutex mutex;
  int num_ended = 0;
  {
    LoadClient client(server.address(), /*num_channels=*/1, &clock);
    for (int64_t idx = 0; idx < 8; ++idx) {
      client.Start(Call(idx, 100), [&](RequestRecord record) {
        absl::MutexLock lock(&mutex);
        if (record.outcome == RequestOutcome::kFailed) ++num_ended;
      });
    }
    client.CancelAll();
  }
  EXPECT_EQ(num_ended, 8);
}

}  // namespace
}  // namespace quire
