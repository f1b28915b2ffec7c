// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/token_table.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Table(const std::string& text, bool is_colourful) {
  const auto tokenizer = LoadTestTokenizer("byte_level");
  EncodeOptions options;
  options.add_special_tokens = true;
  const auto tokens = *tokenizer->Encode(text, options);
  const auto table = TokenTable(*tokenizer, tokens, Painter(is_colourful));
  EXPECT_TRUE(table.ok()) << table.status();
  return table.ok() ? *table : "";
}

TEST(TokenTableTest, WithoutColoursBarsPartTheTokens) {
  const std::string table = Table("the block\n", false);
  EXPECT_THAT(table, HasSubstr("<|begin|>|t|he| block|\\n\n\n"));
  EXPECT_THAT(table, HasSubstr("  Ġblock\n"));
  EXPECT_THAT(table, HasSubstr("<|begin|>  control\n"));
  EXPECT_THAT(table, HasSubstr("5 tokens, 19 characters, 19 bytes, 3.80 "));
  EXPECT_THAT(table, Not(HasSubstr("\033")));
}

TEST(TokenTableTest, ColoursShadeEachToken) {
  EXPECT_THAT(Table("the block", true), HasSubstr("\033[30;48;5;"));
}

TEST(TokenTableTest, NothingInATextReachesTheTerminal) {
  const std::string table = Table("\033[2J\x07", false);
  EXPECT_THAT(table, Not(HasSubstr("\033")));
  EXPECT_THAT(table, HasSubstr("\\x1b"));
}

TEST(TokenTableTest, CountsAreOfCharactersAndBytes) {
  EXPECT_EQ(TokenCounts(2, "né"),
            "2 tokens, 2 characters, 3 bytes, 1.00 characters per token");
  EXPECT_EQ(TokenCounts(0, ""), "0 tokens, 0 characters, 0 bytes");
}

}  // namespace
}  // namespace quire
