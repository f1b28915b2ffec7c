// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/text_table.h"

#include <gtest/gtest.h>

namespace quire {
namespace {

TEST(TextTableTest, AlignsTextLeftAndNumbersRight) {
  EXPECT_EQ(
      FormatTable({"NAME", "BLOCKS"}, {{"a", "7"}, {"longer", "1234567"}}),
      "NAME     BLOCKS\n"
      "a             7\n"
      "longer  1234567\n");
}

TEST(TextTableTest, AColumnWithAWordIsText) {
  EXPECT_EQ(FormatTable({"VALUE", "X"}, {{"12", "1"}, {"none", "2"}}),
            "VALUE  X\n"
            "12     1\n"
            "none   2\n");
}

TEST(TextTableTest, AnEmptyTableIsItsHeadings) {
  EXPECT_EQ(FormatTable({"A", "B"}, {}), "A  B\n");
}

TEST(TextBoxTest, FramesLinesOfDifferentWidth) {
  EXPECT_EQ(FormatBox("T", {"ab", "", "abcdef"}),
            "╭─ T ────╮\n"
            "│ ab     │\n"
            "│        │\n"
            "│ abcdef │\n"
            "╰────────╯\n");
}

TEST(TextBoxTest, CountsCharactersNotBytes) {
  EXPECT_EQ(FormatBox("T", {"größe"}),
            "╭─ T ───╮\n"
            "│ größe │\n"
            "╰───────╯\n");
}

TEST(TextBoxTest, ALongTitleWidensTheFrame) {
  EXPECT_EQ(FormatBox("long title", {"x"}),
            "╭─ long title ─╮\n"
            "│ x            │\n"
            "╰──────────────╯\n");
}

}  // namespace
}  // namespace quire
