// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/token_lines.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

constexpr int kNumTexts = 12'000;
constexpr int kGroup = 200;

// The same numbers as in tests/golden/make_token_digests.py.
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  uint64_t Below(uint64_t bound) {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return (z ^ (z >> 31)) % bound;
  }

 private:
  uint64_t state_;
};

class Digest {
 public:
  void Add(const std::string& bytes) {
    for (const char c : bytes) {
      value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001B3;
    }
  }
  void AddIds(const std::vector<TokenId>& ids) {
    for (const TokenId id : ids) {
      std::string bytes;
      for (int shift = 0; shift < 32; shift += 8) {
        bytes += static_cast<char>(static_cast<uint32_t>(id) >> shift);
      }
      Add(bytes);
    }
  }
  std::string ToHex() const {
    char hex[17];
    snprintf(hex, sizeof(hex), "%016llx",
             static_cast<unsigned long long>(value_));
    return hex;
  }

 private:
  uint64_t value_ = 0xCBF29CE484222325;
};

std::string Utf8(uint32_t point) {
  // JSON knows code units alone.
  char escape[32];
  if (point < 0x10000) {
    snprintf(escape, sizeof(escape), "\"\\u%04x\"", point);
  } else {
    snprintf(escape, sizeof(escape), "\"\\u%04x\\u%04x\"",
             0xD800 + ((point - 0x10000) >> 10),
             0xDC00 + ((point - 0x10000) & 0x3FF));
  }
  return Json::parse(escape).get<std::string>();
}

std::string MakeText(uint64_t number, const std::vector<std::string>& fragments,
                     const std::vector<std::string>& controls) {
  SplitMix rng(number);
  std::string text;
  for (uint64_t left = 1 + rng.Below(10); left > 0; --left) {
    const uint64_t kind = rng.Below(20);
    const std::string& fragment = fragments[rng.Below(fragments.size())];
    if (kind < 16) {
      text += fragment;
    } else if (kind < 18) {
      text +=
          controls.empty() ? fragment : controls[rng.Below(controls.size())];
    } else if (kind == 18) {
      const auto point = static_cast<uint32_t>(rng.Below(0x30000));
      text += Utf8(point >= 0xD800 && point < 0xE000 ? 0x3042 : point);
    } else {
      for (uint64_t n = 1 + rng.Below(5); n > 0; --n) text += fragment;
    }
  }
  return text;
}

class TokenLinesKindTest : public testing::TestWithParam<const char*> {
 protected:
  Json Answer(LineFunction answer, const Json& request) {
    bool is_good = false;
    const std::string line = answer(*tokenizer_, 1, request.dump(), &is_good);
    EXPECT_TRUE(is_good) << line;
    return Json::parse(line);
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = LoadTestTokenizer(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Kinds, TokenLinesKindTest,
                         testing::ValuesIn(kTokenizerKinds),
                         [](const auto& info) { return info.param; });

TEST_P(TokenLinesKindTest, TwelveThousandTextsAreAsTheOriginalLibraryHasThem) {
  const Json golden =
      Json::parse(ReadTestData("token_digests.json"))[GetParam()];
  const auto fragments = Json::parse(ReadTestData("fragments.json"))
                             .get<std::vector<std::string>>();
  std::vector<std::string> controls;
  const Json file =
      Json::parse(ReadTestData(std::string(GetParam()) + ".json"));
  for (const Json& token : file["added_tokens"]) {
    controls.push_back(token["content"]);
  }
  for (int begin = 0; begin < kNumTexts; begin += kGroup) {
    Digest encode;
    Digest decode;
    Digest random;
    for (int number = begin; number < begin + kGroup; ++number) {
      const bool add_special = number % 2 == 0;
      const bool skip_special = number % 3 == 0;
      const std::string text = MakeText(number, fragments, controls);
      EncodeOptions options;
      options.add_special_tokens = add_special;
      options.special_tokens = SpecialTokens::kParse;
      const auto ids = tokenizer_->Encode(text, options);
      ASSERT_TRUE(ids.ok()) << ids.status();
      encode.AddIds(*ids);
      encode.Add("\xff");
      const std::string decoded =
          *tokenizer_->DecodeAsLibrary(*ids, skip_special);
      decode.Add(decoded);
      decode.Add("\xff");
      SplitMix rng(~static_cast<uint64_t>(number));
      std::vector<TokenId> some(1 + rng.Below(30));
      for (TokenId& id : some) {
        id = static_cast<TokenId>(rng.Below(tokenizer_->vocab_size()));
      }
      random.Add(*tokenizer_->DecodeAsLibrary(some, skip_special));
      random.Add("\xff");
      if (number % 16 > 0) continue;
      // Lines of JSON say the same.
      EXPECT_EQ(Answer(TokenizeLine,
                       {{"text", text}, {"add_special_tokens", add_special}}),
                Json({{"tokens", *ids}}));
      EXPECT_EQ(Answer(DetokenizeLine, {{"tokens", *ids},
                                        {"skip_special_tokens", skip_special}}),
                Json({{"text", decoded}}));
    }
    const int group = begin / kGroup;
    ASSERT_EQ(encode.ToHex(), golden["encode"][group]) << "texts " << begin;
    ASSERT_EQ(decode.ToHex(), golden["decode"][group]) << "texts " << begin;
    ASSERT_EQ(random.ToHex(), golden["random"][group]) << "ids " << begin;
  }
}

class TokenLinesTest : public testing::Test {
 protected:
  std::string Answer(LineFunction answer, const std::string& line,
                     bool expect_good) {
    bool is_good = !expect_good;
    const std::string text = answer(*tokenizer_, 7, line, &is_good);
    EXPECT_EQ(is_good, expect_good) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
    return text;
  }

  const std::unique_ptr<Tokenizer> tokenizer_ = LoadTestTokenizer("byte_level");
};

TEST_F(TokenLinesTest, FlagsAreTrueUnlessTheLineSaysOtherwise) {
  const Json with =
      Json::parse(Answer(TokenizeLine, R"({"text": "the", "other": 1})", true));
  const Json without = Json::parse(Answer(
      TokenizeLine, R"({"text": "the", "add_special_tokens": false})", true));
  ASSERT_EQ(with["tokens"].size(), without["tokens"].size() + 1);
  EXPECT_EQ(with["tokens"][0], *tokenizer_->TokenToId("<|begin|>"));
  const std::string tokens = with["tokens"].dump();
  EXPECT_EQ(Answer(DetokenizeLine, "{\"tokens\": " + tokens + "}", true),
            R"({"text":"the"})");
  EXPECT_EQ(
      Answer(DetokenizeLine,
             "{\"skip_special_tokens\": false, \"tokens\": " + tokens + "}",
             true),
      R"({"text":"<|begin|>the"})");
}

TEST_F(TokenLinesTest, BadLinesSayWhichAndWhy) {
  const auto expect = [&](LineFunction answer, const std::string& line,
                          const std::string& words) {
    const Json json = Json::parse(Answer(answer, line, false));
    EXPECT_THAT(json["error"].get<std::string>(), HasSubstr("line 7: "));
    EXPECT_THAT(json["error"].get<std::string>(), HasSubstr(words));
  };
  expect(TokenizeLine, "", "empty");
  expect(TokenizeLine, "{", "not JSON");
  expect(TokenizeLine, "{\"text\": \"\xff\"}", "not JSON");
  expect(TokenizeLine, R"({"text": "\ud800"})", "not JSON");
  expect(TokenizeLine, "[]", "not a JSON object");
  expect(TokenizeLine, "{}", "\"text\" must be a string");
  expect(TokenizeLine, R"({"text": 3})", "\"text\" must be a string");
  expect(TokenizeLine, R"({"text": "a", "add_special_tokens": 1})",
         "neither true nor false");
  expect(DetokenizeLine, R"({"tokens": "1"})", "list of ids");
  expect(DetokenizeLine, R"({"tokens": [1, 1.5]})", "tokens[1] is no id: 1.5");
  expect(DetokenizeLine, R"({"tokens": [99999999999]})", "tokens[0]");
  expect(DetokenizeLine, R"({"tokens": [1, -1]})", "token id -1 at position 1");
  expect(DetokenizeLine, R"({"tokens": [100000]})", "token id 100000");
}

TEST_F(TokenLinesTest, ABadLineDoesNotEndTheOthers) {
  std::istringstream in("{\"tokens\": [1]}\nwhat\n{\"tokens\": []}");
  std::ostringstream out;
  const LineCounts counts = AnswerLines(*tokenizer_, DetokenizeLine, &in, &out);
  EXPECT_EQ(counts.num_lines, 3);
  EXPECT_EQ(counts.num_bad, 1);
  EXPECT_EQ(counts.first_error, "line 2: not JSON in UTF-8");
  const std::string text = out.str();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_THAT(text, HasSubstr("\n{\"text\":\"\"}\n"));
}

}  // namespace
}  // namespace quire
