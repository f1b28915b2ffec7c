// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/colour.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

namespace quire {
namespace {

TEST(ColourTest, WithoutColoursTextStaysAsItIs) {
  const Painter painter(/*is_colourful=*/false);
  EXPECT_EQ(painter.Dim("a") + painter.Bold("b") + painter.Red("c"), "abc");
  EXPECT_EQ(painter.Shade(3, "x\ny"), "x\ny");
}

TEST(ColourTest, ColoursEndWithTheText) {
  const Painter painter(/*is_colourful=*/true);
  EXPECT_EQ(painter.Red("no"), "\033[31mno\033[0m");
  EXPECT_NE(painter.Shade(0, "x"), painter.Shade(1, "x"));
}

TEST(ColourTest, ShadesLeaveLineBreaksOut) {
  const Painter painter(/*is_colourful=*/true);
  const std::string one = painter.Shade(0, "a");
  EXPECT_EQ(painter.Shade(0, "a\na\n"), one + "\n" + one + "\n");
  EXPECT_EQ(painter.Shade(0, "\n"), "\n");
  EXPECT_EQ(painter.Shade(0, ""), "");
}

TEST(ColourTest, AFileIsNoTerminal) {
  const int fd = open("/dev/null", O_WRONLY);
  EXPECT_FALSE(IsColourTerminal(fd));
  close(fd);
}

TEST(ColourTest, NoColorIsHeeded) {
  const int fd = posix_openpt(O_RDWR | O_NOCTTY);
  if (fd < 0) GTEST_SKIP() << "no terminals on this machine";
  unsetenv("NO_COLOR");
  setenv("TERM", "xterm", 1);
  EXPECT_TRUE(IsColourTerminal(fd));
  setenv("NO_COLOR", "1", 1);
  EXPECT_FALSE(IsColourTerminal(fd));
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(IsColourTerminal(fd));
  close(fd);
}

}  // namespace
}  // namespace quire
