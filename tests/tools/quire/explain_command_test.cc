// SPDX-License-Identifier: Apache-2.0
//
// `quire explain` against a server in this process.
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/fakes/fake_server.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

TEST(ExplainCommandTest, PrintsWhyTheRequestWaited) {
  FakeServer server;
  v1::ExplainResponse explained;
  explained.set_request_id("mine");
  explained.set_state(v1::ExplainResponse::STATE_RUNNING);
  explained.set_waited_ns(3000000);
  explained.set_elapsed_ns(5000000);
  v1::WaitInterval* interval = explained.add_intervals();
  interval->set_to_ns(3000000);
  interval->set_reason(v1::WAIT_REASON_NEEDS_BLOCKS);
  interval->set_num_needed(12);
  interval->set_num_available(3);
  v1::WaitShare* share = explained.add_totals();
  share->set_reason(v1::WAIT_REASON_NEEDS_BLOCKS);
  share->set_ns(3000000);
  server.set_explained(explained);
  CaptureStdout();
  const int code = ExplainCommand({"mine", "--target=" + server.address()});
  const std::string text = GetCapturedStdout();
  EXPECT_EQ(code, 0);
  EXPECT_THAT(text, HasSubstr("request mine runs: waited 3.000 of 5.000 ms"));
  EXPECT_THAT(text, HasSubstr("needs 12 KV blocks, 3 free"));
}

TEST(ExplainCommandTest, ARequestThatIsNotRememberedFails) {
  FakeServer server;
  CaptureStderr();
  const int code = ExplainCommand({"other", "--target=" + server.address()});
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("never heard of it (NOT_FOUND)"));
  EXPECT_EQ(code, 1);
}

TEST(ExplainCommandTest, OneRequestIsAskedAbout) {
  CaptureStderr();
  EXPECT_EQ(ExplainCommand({}), 2);
  EXPECT_EQ(ExplainCommand({"a", "b"}), 2);
  EXPECT_EQ(ExplainCommand({"a", "--nonsense"}), 2);
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("give one request id"));
}

TEST(ExplainCommandTest, AnIdThatIsNotUtf8IsRefused) {
  CaptureStderr();
  EXPECT_EQ(ExplainCommand({"a\xff", "--target=127.0.0.1:1"}), 2);
  EXPECT_THAT(GetCapturedStderr(),
              HasSubstr("quire explain: the request id is not UTF-8: bad byte "
                        "at offset 1 of 2"));
}

}  // namespace
}  // namespace quire
