// SPDX-License-Identifier: Apache-2.0
//
// `quire tokenize`.
#include <filesystem>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/quire/token_command_run.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using TokenizeCommandTest = TokenCommandRun;

TEST_F(TokenizeCommandTest, ATextIsShownWithItsTokens) {
  EXPECT_EQ(Run(TokenizeCommand, {"the block"}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("t|he| block\n"));
}

TEST_F(TokenizeCommandTest, WithoutATextOrForADashInputIsRead) {
  EXPECT_EQ(Run(TokenizeCommand, {}, "the"), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("2 tokens, 3 characters"));
  EXPECT_EQ(Run(TokenizeCommand, {"-"}, "the"), 0) << err_;
  EXPECT_THAT(out_, HasSubstr("2 tokens, 3 characters"));
}

TEST_F(TokenizeCommandTest, LinesAreAnsweredAndBadOnesCounted) {
  EXPECT_EQ(Run(TokenizeCommand, {"--jsonl"}, "{\"text\": \"the\"}\n"), 0);
  EXPECT_THAT(out_, testing::StartsWith("{\"tokens\":["));
  EXPECT_EQ(err_, "");
  EXPECT_EQ(Run(TokenizeCommand, {"--jsonl"}, "\n{\"text\": \"the\"}\n3\n"), 1);
  EXPECT_THAT(err_, HasSubstr("quire tokenize: 2 of 3 lines are bad; first: "
                              "line 1: the line is empty"));
}

TEST_F(TokenizeCommandTest, WrongUsageIsToldInALine) {
  EXPECT_EQ(Run(TokenizeCommand, {"two", "texts"}), 2);
  EXPECT_EQ(Run(TokenizeCommand, {"text", "--jsonl"}), 2);
  EXPECT_EQ(TokenizeCommand({"x", "--model=/nowhere"}), 1);
  std::filesystem::remove(folder_ + "/tokenizer.json");
  EXPECT_EQ(Run(TokenizeCommand, {"x"}), 1);
  EXPECT_THAT(err_,
              HasSubstr("has no tokenizer.json; transformers writes one"));
}

}  // namespace
}  // namespace quire
