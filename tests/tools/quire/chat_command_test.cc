// SPDX-License-Identifier: Apache-2.0
//
// `quire chat` against a server in this process, over pipes.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/process.h"
#include "tests/integration/runfiles.h"
#include "tests/tools/fakes/fake_server.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};

Ran RunChat(const std::string& input, const std::vector<std::string>& args) {
  Ran ran;
  std::istringstream in(input);
  std::streambuf* const old = std::cin.rdbuf(in.rdbuf());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  ran.code = ChatCommand(args);
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  std::cin.rdbuf(old);
  std::cin.clear();
  return ran;
}

TEST(ChatCommandTest, EveryTurnBringsWhatWasSaidBefore) {
  FakeServer server;
  const Ran ran = RunChat(
      "one\ntwo\n/reset\nthree",
      {"--target=" + server.address(), "--system=Be kind.", "--max_tokens=5"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.out, "heard one\nheard two\n(forgotten)\nheard three\n");
  const std::vector<v1::ChatRequest> chats = server.chats();
  ASSERT_EQ(chats.size(), 3u);
  EXPECT_EQ(chats[0].sampling().max_tokens(), 5u);
  ASSERT_EQ(chats[1].messages_size(), 4);
  EXPECT_EQ(chats[1].messages(0).content(), "Be kind.");
  EXPECT_EQ(chats[1].messages(2).role(), "assistant");
  EXPECT_EQ(chats[1].messages(2).content(), "heard one");
  EXPECT_EQ(chats[2].messages_size(), 2);
}

TEST(ChatCommandTest, ToolCallsAreShownAndRemembered) {
  FakeServer server;
  const Ran ran = RunChat("call\nthen\n", {"--target=" + server.address()});
  EXPECT_EQ(ran.out, "[calls f({})]\nheard then\n");
  const v1::ChatMessage remembered = server.chats()[1].messages(1);
  EXPECT_FALSE(remembered.has_content());
  EXPECT_EQ(remembered.tool_calls(0).name(), "f");
}

TEST(ChatCommandTest, AFailedTurnIsTakenBackAndTold) {
  FakeServer server;
  const Ran ran = RunChat("fail\nthen\n", {"--target=" + server.address()});
  EXPECT_EQ(ran.code, 1);
  EXPECT_THAT(ran.err, HasSubstr("the template refuses"));
  EXPECT_THAT(ran.out, HasSubstr("heard then"));
  EXPECT_EQ(server.chats()[1].messages_size(), 1);
}

TEST(ChatCommandTest, ALineThatIsNotUtf8IsToldAndNotSent) {
  FakeServer server;
  const Ran ran = RunChat("ab\xff\nthen\n", {"--target=" + server.address()});
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.err,
            "quire chat: the line is not UTF-8: bad byte at offset 2 of 3; "
            "convert it, such as with iconv\n");
  EXPECT_EQ(ran.out, "heard then\n");
  ASSERT_EQ(server.chats().size(), 1u);
  EXPECT_EQ(server.chats()[0].messages_size(), 1);
}

TEST(ChatCommandTest, FlagsThatAreNotUtf8AreRefused) {
  for (const std::string flag :
       {"--model", "--system", "--template_kwargs", "--stop"}) {
    const Ran ran = RunChat("hello\n", {flag + "=\xff"});
    EXPECT_EQ(ran.code, 2);
    EXPECT_THAT(ran.err, HasSubstr("quire chat: " + flag + " is not UTF-8"));
  }
}

TEST(ChatCommandTest, WrongUsageIsToldInALine) {
  EXPECT_EQ(RunChat("", {"hello"}).code, 2);
  EXPECT_EQ(RunChat("", {"--n=2"}).code, 2);
  EXPECT_EQ(RunChat("", {"--sistem=x"}).code, 2);
  const Ran nobody =
      RunChat("", {"--target=127.0.0.1:1", "--connect_timeout_s=0.1"});
  EXPECT_EQ(nobody.code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("127.0.0.1:1"));
}

TEST(ChatCommandTest, AnInterruptStopsTheAnswerAlone) {
  FakeServer server;
  int input[2];
  ASSERT_EQ(pipe2(input, O_CLOEXEC), 0);
  // A process begins with its parent's standard input.
  const int old = dup(STDIN_FILENO);
  dup2(input[0], STDIN_FILENO);
  const auto started = Process::Start(
      {Runfile("tools/quire/quire"), "chat", "--target=" + server.address()},
      TempPath("chat.err"));
  dup2(old, STDIN_FILENO);
  close(old);
  close(input[0]);
  ASSERT_TRUE(started.ok()) << started.status();
  Process& process = **started;
  ASSERT_EQ(write(input[1], "hang\n", 5), 5);
  while (server.chats().empty()) std::this_thread::yield();
  process.Signal(SIGINT);
  ASSERT_EQ(write(input[1], "next\n", 5), 5);
  close(input[1]);
  const auto next = process.ReadLine("heard next", absl::Seconds(60));
  EXPECT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(*process.Wait(absl::Seconds(60)), 0);
  EXPECT_THAT(process.Stderr(), HasSubstr("(stopped)"));
  // The stopped answer stays in the conversation.
  EXPECT_EQ(server.chats()[1].messages_size(), 3);
}

}  // namespace
}  // namespace quire
