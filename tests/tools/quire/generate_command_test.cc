// SPDX-License-Identifier: Apache-2.0
//
// `quire generate` against a server in this process.
#include <algorithm>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tools/fakes/fake_server.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::internal::CaptureStderr;
using ::testing::internal::CaptureStdout;
using ::testing::internal::GetCapturedStderr;
using ::testing::internal::GetCapturedStdout;

// Two sequences, with log probabilities if they are asked for.
FakeServer::Script TwoAnswers(const v1::GenerateRequest& request) {
  FakeServer::Script script;
  for (uint32_t index : {0, 1}) {
    v1::GenerateResponse response =
        ChunkResponse(0, {10 * index + 1, 10 * index + 2});
    v1::Chunk* chunk = response.mutable_chunk();
    chunk->set_index(index);
    chunk->set_finish_reason(v1::FINISH_REASON_LENGTH);
    for (int i = 0; i < 2 && request.sampling().has_logprobs(); ++i) {
      chunk->add_logprobs()->set_logprob(-0.25 * (index + 1));
    }
    script.responses.push_back(response);
  }
  script.responses.push_back(CompleteResponse(3, 4));
  return script;
}

std::string RunGenerate(const std::vector<std::string>& args,
                        int expected_code = 0) {
  CaptureStdout();
  EXPECT_EQ(GenerateCommand(args), expected_code);
  return GetCapturedStdout();
}

TEST(GenerateCommandTest, OneAnswerIsStreamed) {
  FakeServer server;
  const std::string text =
      RunGenerate({"hello", "--target=" + server.address(), "--max_tokens=3"});
  EXPECT_EQ(std::count(text.begin(), text.end(), ' '), 3);
  EXPECT_EQ(text.find("---"), std::string::npos);
}

TEST(GenerateCommandTest, SeveralSamplesAreNumbered) {
  FakeServer server(TwoAnswers);
  EXPECT_EQ(RunGenerate({"hello", "--target=" + server.address(), "--n=2"}),
            "--- answer 1 of 2 (length)\n1 2 \n"
            "--- answer 2 of 2 (length)\n11 12 \n");
}

TEST(GenerateCommandTest, AnEchoedPromptHasALineOfItsOwnBeforeSeveralAnswers) {
  for (const std::string end : {"", "\n"}) {
    FakeServer server([&](const v1::GenerateRequest& request) {
      FakeServer::Script script = TwoAnswers(request);
      v1::GenerateResponse prompt;
      prompt.mutable_prompt()->set_text("hello" + end);
      script.responses.insert(script.responses.begin(), prompt);
      return script;
    });
    EXPECT_EQ(RunGenerate(
                  {"hello", "--target=" + server.address(), "--n=2", "--echo"}),
              "hello\n--- answer 1 of 2 (length)\n1 2 \n"
              "--- answer 2 of 2 (length)\n11 12 \n");
  }
}

TEST(GenerateCommandTest, BeamsSayHowLikelyTheyAre) {
  FakeServer server(TwoAnswers);
  const std::vector<std::string> args = {
      "hello", "--target=" + server.address(), "--n=2", "--beam_width=2"};
  EXPECT_EQ(RunGenerate(args),
            "--- answer 1 of 2 (length, log probability -0.500)\n1 2 \n"
            "--- answer 2 of 2 (length, log probability -1.000)\n11 12 \n");
  std::vector<std::string> as_json = args;
  as_json.push_back("--json");
  const auto json = nlohmann::json::parse(RunGenerate(as_json));
  ASSERT_EQ(json.size(), 2);
  EXPECT_EQ(json[1]["cumulative_logprob"], -1);
}

TEST(GenerateCommandTest, AServersErrorIsTold) {
  FakeServer server([](const v1::GenerateRequest&) {
    return FakeServer::Script{.code = 8, .message = "the queue is full"};
  });
  CaptureStderr();
  RunGenerate({"hello", "--target=" + server.address()}, /*expected_code=*/1);
  EXPECT_THAT(GetCapturedStderr(),
              HasSubstr("the queue is full (RESOURCE_EXHAUSTED)"));
}

TEST(GenerateCommandTest, WhatIsNotUtf8IsRefusedBeforeAnythingIsSent) {
  const std::string nobody = "--target=127.0.0.1:1";
  const auto error_of = [&](const std::vector<std::string>& args) {
    CaptureStderr();
    RunGenerate(args, 2);
    return GetCapturedStderr();
  };
  const std::string rest =
      " is not UTF-8: bad byte at offset 2 of 3; convert it, such as with "
      "iconv\n";
  EXPECT_EQ(error_of({"ab\xff", nobody}), "quire generate: the prompt" + rest);
  std::istringstream in("ab\xff");
  std::streambuf* const old = std::cin.rdbuf(in.rdbuf());
  EXPECT_EQ(error_of({"-", nobody}), "quire generate: standard input" + rest);
  std::cin.rdbuf(old);
  std::cin.clear();
  for (const std::string flag :
       {"--stop", "--regex", "--model", "--request_id"}) {
    EXPECT_EQ(error_of({"x", nobody, flag + "=ab\xff"}),
              "quire generate: " + flag + rest);
  }
}

TEST(GenerateCommandTest, OnePromptIsWanted) {
  CaptureStderr();
  RunGenerate({}, 2);
  RunGenerate({"a", "b"}, 2);
  RunGenerate({"a", "--temperature=hot"}, 2);
  EXPECT_THAT(GetCapturedStderr(), HasSubstr("put the prompt in quotes"));
}

}  // namespace
}  // namespace quire
