// SPDX-License-Identifier: Apache-2.0
#include "common/text/stop_string_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "common/text/utf8.h"

namespace quire {
namespace {

StopStringMatcher Matcher(const std::vector<std::string>& stops,
                          bool include = false) {
  auto matcher = StopStringMatcher::Create(stops, include);
  EXPECT_TRUE(matcher.ok()) << matcher.status();
  return *matcher;
}

struct Result {
  std::string text;
  std::string stop;          // empty: none
  int64_t token_index = -1;  // of the match
};

Result Feed(StopStringMatcher matcher, const std::vector<std::string>& pieces) {
  Result result;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto output = matcher.Append(pieces[i], static_cast<int64_t>(i));
    EXPECT_TRUE(IsValidUtf8(output.text));
    result.text += output.text;
    if (output.match.has_value()) {
      EXPECT_EQ(result.stop, "") << "a second match";
      result.stop = output.match->stop_string;
      result.token_index = output.match->token_index;
    }
  }
  result.text += matcher.Flush();
  return result;
}

// What the matcher must find, by trying every end and every stop string.
Result Reference(const std::string& text,
                 const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && stop.size() > best.size() &&
          text.compare(end - stop.size(), stop.size(), stop) == 0) {
        best = stop;
      }
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), best, -1};
  }
  return {text, "", -1};
}

TEST(StopStringMatcherTest, WithoutStopStringsTextPassesThrough) {
  StopStringMatcher matcher = Matcher({});
  EXPECT_EQ(matcher.Append("any text", 0).text, "any text");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopStringMatcherTest, AStopStringOverThreeTokensIsFound) {
  const Result result = Feed(Matcher({"END"}), {"text E", "N", "D more"});
  EXPECT_EQ(result.text, "text ");
  EXPECT_EQ(result.stop, "END");
  EXPECT_EQ(result.token_index, 2);
}

TEST(StopStringMatcherTest, OnlyWhatMayBecomeAStopStringIsHeldBack) {
  StopStringMatcher matcher = Matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Append("one\n", 0).text, "one");
  EXPECT_EQ(matcher.Append("\nUse", 1).text, "");
  EXPECT_EQ(matcher.Append("ful", 2).text, "\n\nUseful");
  EXPECT_EQ(matcher.Append("\n", 3).text, "");
  EXPECT_EQ(matcher.Flush(), "\n");
}

TEST(StopStringMatcherTest, TheStopStringIsSentWhenAskedFor) {
  const Result result =
      Feed(Matcher({"END"}, /*include=*/true), {"text E", "ND more"});
  EXPECT_EQ(result.text, "text END");
  EXPECT_EQ(result.token_index, 1);
}

TEST(StopStringMatcherTest, NothingFollowsAMatch) {
  StopStringMatcher matcher = Matcher({"x"});
  EXPECT_EQ(matcher.Append("axb", 0).text, "a");
  EXPECT_TRUE(matcher.matched());
  const auto later = matcher.Append("cxd", 1);
  EXPECT_EQ(later.text, "");
  EXPECT_FALSE(later.match.has_value());
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopStringMatcherTest, TheOneThatEndsFirstWins) {
  const Result result = Feed(Matcher({"abcd", "bc"}), {"xabcdx"});
  EXPECT_EQ(result.stop, "bc");
  EXPECT_EQ(result.text, "xa");
}

TEST(StopStringMatcherTest, OfTwoThatEndTogetherTheLongestWins) {
  const Result result = Feed(Matcher({"bc", "abc", "c"}), {"xabc"});
  EXPECT_EQ(result.stop, "abc");
  EXPECT_EQ(result.text, "x");
}

TEST(StopStringMatcherTest, AFalseStartInsideAStopStringIsNotLost) {
  const Result result = Feed(Matcher({"aab"}), {"a", "a", "a", "b"});
  EXPECT_EQ(result.text, "a");
  EXPECT_EQ(result.token_index, 3);
}

TEST(StopStringMatcherTest, HeldTextIsWholeCharacters) {
  // The two differ in their last byte only.
  StopStringMatcher matcher = Matcher({"é!"});
  EXPECT_EQ(matcher.Append("xè", 0).text, "xè");
  EXPECT_EQ(matcher.Append("é", 1).text, "");
  EXPECT_EQ(matcher.Append("?", 2).text, "é?");
}

TEST(StopStringMatcherTest, TheDivisionIntoTokensChangesNothing) {
  std::mt19937 rng(3);
  const auto random_text = [&rng](size_t max) {
    std::string text;
    const size_t size = 1 + rng() % max;
    while (text.size() < size) text += static_cast<char>('a' + rng() % 3);
    return text;
  };
  int num_matched = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(1 + rng() % 5);
    for (std::string& stop : stops) stop = random_text(7);
    const std::string text = random_text(40);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng() % 5;
      pieces.push_back(text.substr(at, n));
      at += n;
    }
    const Result expected = Reference(text, stops);
    const Result result = Feed(Matcher(stops), pieces);
    ASSERT_EQ(result.text, expected.text) << text;
    ASSERT_EQ(result.stop, expected.stop) << text;
    num_matched += result.stop.empty() ? 0 : 1;
    const Result with = Feed(Matcher(stops, /*include=*/true), pieces);
    ASSERT_EQ(with.text, expected.text + expected.stop) << text;
  }
  // Both outcomes were tried often.
  EXPECT_GT(num_matched, 300);
  EXPECT_LT(num_matched, 2900);
}

TEST(StopStringMatcherTest, StopStringsOutOfRangeAreRefused) {
  const auto code = [](const std::vector<std::string>& stops) {
    return StopStringMatcher::Create(stops, false).status().code();
  };
  constexpr auto kBad = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code({""}), kBad);
  EXPECT_EQ(code({"ok", "\xFF"}), kBad);
  EXPECT_EQ(code({std::string(257, 'a')}), kBad);
  EXPECT_EQ(code(std::vector<std::string>(17, "a")), kBad);
  EXPECT_EQ(code({std::string(256, 'a')}), absl::StatusCode::kOk);
  EXPECT_EQ(code(std::vector<std::string>(16, "a")), absl::StatusCode::kOk);
}

}  // namespace
}  // namespace quire
