// SPDX-License-Identifier: Apache-2.0
//
// `quire detokenize`.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/quire/token_command_run.h"
#include "tools/quire/commands.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using DetokenizeCommandTest = TokenCommandRun;

TEST_F(DetokenizeCommandTest, ControlTokensAreShownIfAskedFor) {
  EXPECT_EQ(Run(DetokenizeCommand, {"--noskip_special_tokens"}, "[0, 0]\n"), 0)
      << err_;
  EXPECT_EQ(out_, "<|endoftext|><|endoftext|>\n");
  EXPECT_EQ(Run(DetokenizeCommand, {"0", "0"}), 0) << err_;
  EXPECT_EQ(out_, "\n");
}

// As people paste them.
TEST_F(DetokenizeCommandTest, IdsMayBePartedInAnyWay) {
  for (const char* ids : {"1 2 3", "1,2,3", "[1, 2,\t3]\r\n", "  1\n2\n3"}) {
    EXPECT_EQ(Run(DetokenizeCommand, {ids}), 0) << err_;
    const std::string as_one = out_;
    EXPECT_EQ(Run(DetokenizeCommand, {"1", "2", "3"}), 0) << err_;
    EXPECT_EQ(as_one, out_) << ids;
    EXPECT_EQ(Run(DetokenizeCommand, {"-"}, ids), 0) << err_;
    EXPECT_EQ(as_one, out_) << ids;
  }
  EXPECT_NE(out_, "\n");
}

TEST_F(DetokenizeCommandTest, LinesAreAnsweredAndBadOnesCounted) {
  EXPECT_EQ(Run(DetokenizeCommand, {"--jsonl"},
                "{\"tokens\": [0]}\n{\"tokens\": 0}\n"),
            1);
  EXPECT_THAT(out_, HasSubstr("{\"text\":\"\"}\n{\"error\":\"line 2: "));
  EXPECT_THAT(
      err_,
      HasSubstr("quire detokenize: 1 of 2 lines are bad; first: line 2: "));
}

TEST_F(DetokenizeCommandTest, WrongUsageIsToldInALine) {
  EXPECT_EQ(Run(DetokenizeCommand, {"one"}), 2);
  EXPECT_THAT(err_, HasSubstr("\"one\" is no token id"));
  EXPECT_EQ(Run(DetokenizeCommand, {"12345678901234567890"}), 2);
  EXPECT_EQ(Run(DetokenizeCommand, {"999999"}), 1);
  EXPECT_EQ(Run(DetokenizeCommand, {"1", "--jsonl"}), 2);
}

}  // namespace
}  // namespace quire
