// SPDX-License-Identifier: Apache-2.0
#include "common/text/utf8.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace quire {
namespace {

TEST(Utf8Test, WholeCharactersAreValid) {
  for (const std::string text : {"", "ascii", "é", "€", "\U0001F600",
                                 "\U0010FFFF", "\uD7FF", "\uE000"}) {
    EXPECT_TRUE(IsValidUtf8(text)) << text;
  }
  EXPECT_TRUE(IsValidUtf8(std::string_view("\0", 1)));
}

TEST(Utf8Test, EveryCutOfACharacterIsInvalid) {
  for (const std::string text : {"é", "€", "\U0001F600"}) {
    for (size_t size = 1; size < text.size(); ++size) {
      EXPECT_EQ(ValidUtf8Prefix("ab" + text.substr(0, size)), 2) << text;
    }
  }
}

TEST(Utf8Test, OverlongSurrogateAndTooLargeFormsAreInvalid) {
  for (const std::string text :
       {"\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\x80", "\xBF", "\xFE", "\xFF", "\xE2\x28\xA1"}) {
    EXPECT_EQ(ValidUtf8Prefix(text), 0);
  }
}

TEST(Utf8Test, AsMuchOfACharacterAsIsThereIsBrokenAtOnce) {
  const std::vector<std::pair<std::string, size_t>> texts = {
      {"\x80", 1},
      {"\xFF"
       "a",
       1},
      {"\xC0\x80", 1},
      {"\xE2\x28", 1},
      {"\xE2\x82z", 2},
      {"\xE0\x9F\xBF", 1},
      {"\xED\xA0\x80", 1},
      {"\xF0\x9F\x98z", 3},
      {"\xF4\x90\x80\x80", 1},
  };
  for (const auto& [text, num_bytes] : texts) {
    EXPECT_EQ(BrokenUtf8Prefix(text), num_bytes)
        << testing::PrintToString(text);
  }
}

TEST(Utf8Test, TheBeginningOfACharacterIsNotBrokenYet) {
  for (const std::string text : {"é", "€", "\U0001F600", "\U0010FFFF"}) {
    for (size_t size = 1; size < text.size(); ++size) {
      EXPECT_EQ(BrokenUtf8Prefix(text.substr(0, size)), 0u) << text;
    }
  }
}

TEST(Utf8Test, ContinuationBytesAreNoBoundary) {
  EXPECT_TRUE(IsUtf8Boundary('a'));
  EXPECT_TRUE(IsUtf8Boundary('\xE2'));
  EXPECT_FALSE(IsUtf8Boundary('\x82'));
  EXPECT_FALSE(IsUtf8Boundary('\xBF'));
}

}  // namespace
}  // namespace quire
