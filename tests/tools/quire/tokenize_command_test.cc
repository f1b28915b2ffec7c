// SPDX-License-Identifier: Apache-2.0
//
// `quire tokenize` and `quire detokenize`.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/text/text_testing.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

class TokenizeCommandTest : public testing::Test {
 protected:
  TokenizeCommandTest() : folder_(std::string(testing::TempDir()) + "/model") {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ + "/tokenizer.json") << ReadTestData("gpt2.json");
  }

  // Runs a command with `input` as its standard input.
  int Run(int (*command)(const std::vector<std::string>&),
          std::vector<std::string> args, const std::string& input = "") {
    args.push_back("--model=" + folder_);
    std::istringstream in(input);
    std::streambuf* const old = std::cin.rdbuf(in.rdbuf());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = command(args);
    std::cout.flush();
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    std::cin.rdbuf(old);
    return code;
  }

  const std::string folder_;
  std::string out_;
  std::string err_;
};

TEST_F(TokenizeCommandTest, TextIsShownAndReadBack) {
  EXPECT_EQ(Run(TokenizeCommand, {"the block"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("t|he| block\n"));
  EXPECT_EQ(Run(TokenizeCommand, {}, "the"), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("2 tokens, 3 characters"));
  EXPECT_EQ(Run(DetokenizeCommand, {"--noskip_special_tokens"}, "[0, 0]\n"), 0)
      << err_;
  EXPECT_EQ(out_, "<|endoftext|><|endoftext|>\n");
  EXPECT_EQ(Run(DetokenizeCommand, {"0", "0"}), 0) << err_;
  EXPECT_EQ(out_, "\n");
}

TEST_F(TokenizeCommandTest, LinesAreAnsweredAndBadOnesCounted) {
  EXPECT_EQ(Run(TokenizeCommand, {"--jsonl"}, "{\"text\": \"the\"}\n"), 0);
  EXPECT_THAT(out_, testing::StartsWith("{\"tokens\":["));
  EXPECT_EQ(Run(DetokenizeCommand, {"--jsonl"},
                "{\"tokens\": [0]}\n{\"tokens\": 0}\n"),
            1);
  EXPECT_THAT(out_, HasSubstr("{\"text\":\"\"}\n{\"error\":\"line 2: "));
  EXPECT_THAT(err_, HasSubstr("1 of 2 lines are bad; first: line 2: "));
}

TEST_F(TokenizeCommandTest, WrongUsageIsToldInALine) {
  EXPECT_EQ(Run(TokenizeCommand, {"two", "texts"}), 2);
  EXPECT_EQ(Run(TokenizeCommand, {"text", "--jsonl"}), 2);
  EXPECT_EQ(Run(DetokenizeCommand, {"one"}), 2);
  EXPECT_THAT(err_, HasSubstr("\"one\" is no token id"));
  EXPECT_EQ(Run(DetokenizeCommand, {"999999"}), 1);
  EXPECT_EQ(TokenizeCommand({"x", "--model=/nowhere"}), 1);
  std::filesystem::remove(folder_ + "/tokenizer.json");
  EXPECT_EQ(Run(TokenizeCommand, {"x"}), 1);
  EXPECT_THAT(err_,
              HasSubstr("has no tokenizer.json; transformers writes one"));
}

}  // namespace
}  // namespace quire
