// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/text_check.h"

#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(TextCheckTest, TextOfEveryLengthOfCharacterPasses) {
  for (const std::string text : {"", "a", "\u00e9", "\u20ac", "\U0001F600"}) {
    EXPECT_TRUE(CheckText("it", text).ok()) << text;
  }
}

TEST(TextCheckTest, TheFirstBadByteIsNamedByItsOffset) {
  EXPECT_EQ(CheckText("--stop", "ab\xff").message(),
            "--stop is not UTF-8: bad byte at offset 2 of 3; convert it, such "
            "as with iconv");
  // Offsets are of bytes; a character that is cut off is bad from its start.
  EXPECT_EQ(CheckText("--stop", "\u00e9x\xe2\x82").message(),
            "--stop is not UTF-8: bad byte at offset 3 of 5; convert it, such "
            "as with iconv");
  EXPECT_EQ(CheckText("--stop", "\xff").code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
