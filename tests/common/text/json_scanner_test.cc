// SPDX-License-Identifier: Apache-2.0
#include "common/text/json_scanner.h"

#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

using State = JsonScanner::State;

// The state after the last byte that was taken, and how many were.
std::pair<State, size_t> Scan(const std::string& text) {
  JsonScanner scanner;
  State state = State::kMore;
  size_t taken = 0;
  while (taken < text.size() && state == State::kMore) {
    state = scanner.Push(text[taken++]);
  }
  return {state, taken};
}

TEST(JsonScannerTest, AValueEndsWithItsBracket) {
  for (const std::string text :
       {R"({})", R"([])", R"( {"a": [1, -2.5e+3, {"b": "]}\"\\"}], "c": null})",
        R"([true,false,null,0,-0.0,1E9])", R"({"\u00e9":"\n"})"}) {
    const auto [state, taken] = Scan(text + " tail");
    EXPECT_EQ(state, State::kDone) << text;
    EXPECT_EQ(taken, text.size()) << text;
    EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded());
  }
}

TEST(JsonScannerTest, TheFirstByteThatCannotFollowIsBad) {
  for (const auto& [text, at] : std::vector<std::pair<std::string, size_t>>{
           {"x", 0},
           {"\"a\"", 0},
           {"1", 0},
           {"]", 0},
           {"{]", 1},
           {"[}", 1},
           {"{,", 1},
           {"[,", 1},
           {"[1,]", 3},
           {R"({"a"})", 4},
           {R"({"a":})", 5},
           {R"({"a":1,})", 7},
           {R"({"a" "b"})", 5},
           {"[01]", 2},
           {"[-]", 2},
           {"[1.]", 3},
           {"[1e]", 3},
           {"[trux]", 4},
           {"[nul]", 4},
           {"[\"\n\"]", 2},
           {R"(["\x"])", 3},
           {R"(["\u12g4"])", 6},
           {"[1 2]", 3},
           {"{a:1}", 1},
       }) {
    const auto [state, taken] = Scan(text);
    EXPECT_EQ(state, State::kBad) << text;
    EXPECT_EQ(taken, at + 1) << text;
  }
}

TEST(JsonScannerTest, DepthIsBounded) {
  EXPECT_EQ(Scan(std::string(64, '[')).first, State::kMore);
  EXPECT_EQ(Scan(std::string(65, '[')).first, State::kBad);
}

TEST(JsonScannerTest, AgreesWithAParserOnDamagedJson) {
  std::mt19937 rng(3);
  const std::string whole =
      R"({"name": "f", "arguments": {"x": [1, 2.5, -3e2], "y": "a\"b"}})";
  const std::string alphabet = "{}[]\",:\\ 0123eE+-.tfn";
  int num_valid = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string text = whole;
    for (int edits = rng() % 3; edits >= 0; --edits) {
      const size_t at = 1 + rng() % (text.size() - 1);
      switch (rng() % 3) {
        case 0:
          text[at] = alphabet[rng() % alphabet.size()];
          break;
        case 1:
          text.erase(at, 1);
          break;
        default:
          text.insert(at, 1, alphabet[rng() % alphabet.size()]);
      }
    }
    const auto [state, taken] = Scan(text);
    const bool is_valid =
        !nlohmann::json::parse(text, nullptr, false).is_discarded();
    num_valid += is_valid;
    EXPECT_EQ(state == State::kDone && taken == text.size(), is_valid) << text;
  }
  EXPECT_GT(num_valid, 1000);
}

}  // namespace
}  // namespace quire
