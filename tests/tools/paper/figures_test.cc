// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/figures.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(FiguresTest, NamesDiffer) {
  std::set<std::string> names;
  for (const Figure& figure : Figures()) names.insert(figure.name);
  EXPECT_EQ(names.size(), Figures().size());
}

TEST(FiguresTest, TracesAreAsLongAsTheOptionsSay) {
  EXPECT_DOUBLE_EQ(FigureOptions{}.TraceSeconds(100, 20), 100);
  const FigureOptions brief = {.quick = true, .trace_share = 0.5};
  EXPECT_DOUBLE_EQ(brief.TraceSeconds(100, 20), 10);
}

}  // namespace
}  // namespace quire
