// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/server_requests.h"

#include <string>
#include <utility>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/fakes/fake_server.h"
#include "tools/cli/rpc.h"

namespace quire {
namespace {

LLMResult Ask(const FakeServer& server, const v1::GenerateRequest& request) {
  ServerRequests requests(MakeChannel(server.address()), "", /*jobs=*/1);
  absl::Notification done;
  LLMResult result;
  requests.Start(request, [&](LLMResult end) {
    result = std::move(end);
    done.Notify();
  });
  done.WaitForNotification();
  return result;
}

v1::GenerateRequest Request() {
  v1::GenerateRequest request;
  request.set_text("hello");
  request.mutable_sampling()->set_max_tokens(3);
  return request;
}

TEST(ServerRequestsTest, ChunksBecomeAnAnswer) {
  FakeServer server;
  const LLMResult result = Ask(server, Request());
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.answers.size(), 1u);
  EXPECT_EQ(result.answers[0].token_ids.size(), 3u);
  EXPECT_FALSE(result.answers[0].text.empty());
  EXPECT_EQ(result.complete.usage().output_tokens(), 3u);
}

TEST(ServerRequestsTest, ErrorsAndBrokenStreamsAreTold) {
  FakeServer refusing([](const v1::GenerateRequest&) {
    FakeServer::Script script;
    script.code = 3;  // INVALID_ARGUMENT
    script.message = "too hot";
    return script;
  });
  EXPECT_EQ(Ask(refusing, Request()).status.message(), "too hot");
  FakeServer breaking([](const v1::GenerateRequest&) {
    FakeServer::Script script;
    script.responses = {ChunkResponse(0, {1}), ChunkResponse(5, {2})};
    return script;
  });
  EXPECT_EQ(Ask(breaking, Request()).status.code(),
            absl::StatusCode::kDataLoss);
  FakeServer silent([](const v1::GenerateRequest&) {
    FakeServer::Script script;
    script.responses = {ChunkResponse(0, {1})};
    return script;
  });
  EXPECT_EQ(Ask(silent, Request()).status.code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace quire
