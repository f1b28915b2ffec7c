// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/paper_table.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

const PaperRow kRow = {.figure = "13",
                       .what = "batch",
                       .paper = 10,
                       .ours = 10.5,
                       .unit = Unit::kNumber,
                       .note = "n"};

TEST(PaperTableTest, DifferencesAreRelativeButOfPercentagesPoints) {
  EXPECT_EQ(FormatDifference(kRow), "+5.0 %");
  PaperRow percent = kRow;
  percent.unit = Unit::kPercent;
  EXPECT_EQ(FormatDifference(percent), "+0.5 points");
  percent.paper.reset();
  EXPECT_EQ(FormatDifference(percent), "");
}

TEST(PaperTableTest, ValuesBearTheirUnit) {
  EXPECT_EQ(FormatValue(1.666, Unit::kRatio), "1.67x");
  EXPECT_EQ(FormatValue(96.34, Unit::kPercent), "96.3 %");
  EXPECT_EQ(FormatValue(1.9, Unit::kRate), "1.90/s");
}

TEST(PaperTableTest, MarkdownHasALineARow) {
  EXPECT_EQ(ToMarkdown({kRow}),
            "| figure | what | paper | here | difference | note |\n"
            "|---|---|---|---|---|---|\n"
            "| 13 | batch | 10.00 | 10.50 | +5.0 % | n |\n");
}

}  // namespace
}  // namespace quire
