// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/svg_plot.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

int Count(const std::string& text, const std::string& part) {
  int num = 0;
  for (size_t at = text.find(part); at != std::string::npos;
       at = text.find(part, at + 1)) {
    ++num;
  }
  return num;
}

TEST(SvgPlotTest, DrawsALineASeriesAndADotAPoint) {
  const std::string svg = ToSvg({.name = "p",
                                 .title = "a < b",
                                 .x_label = "x",
                                 .y_label = "y",
                                 .series = {{"one", {{0, 0}, {1, 1}, {2, NAN}}},
                                            {"two", {{0, 1}, {2, 3}}}}});
  EXPECT_EQ(Count(svg, "<polyline"), 2);
  EXPECT_EQ(Count(svg, "<circle"), 4);
  EXPECT_NE(svg.find("a &lt; b"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.rfind("</svg>\n"), svg.size() - 7);
}

TEST(SvgPlotTest, ALineThatLeavesTheTopEndsThere) {
  const std::string svg =
      ToSvg({.max_y = 1, .series = {{"s", {{0, 0.5}, {1, 9}, {2, 99}}}}});
  EXPECT_EQ(Count(svg, "<circle"), 2);
}

TEST(SvgPlotTest, AnEmptyPlotIsStillADocument) {
  EXPECT_EQ(Count(ToSvg({}), "</svg>"), 1);
}

}  // namespace
}  // namespace quire
