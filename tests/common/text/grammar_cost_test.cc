// SPDX-License-Identifier: Apache-2.0
//
// Rules that would cost seconds: each is refused by name when it is compiled,
// or by its budget while a text follows it.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/text/grammar.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

class GrammarCostTest : public testing::Test {
 protected:
  GrammarCostTest() : tokenizer_(LoadTestTokenizer("byte_level")) {
    auto vocab = GrammarVocab::Create(*tokenizer_, tokenizer_->vocab_size(),
                                      {tokenizer_->vocab_size() - 1});
    EXPECT_TRUE(vocab.ok()) << vocab.status();
    vocab_ = *std::move(vocab);
  }

  std::string Refusal(RuleKind kind, const std::string& rule) const {
    const auto grammar = vocab_->Compile(kind, rule);
    if (grammar.ok()) return "";
    EXPECT_TRUE(absl::IsInvalidArgument(grammar.status()));
    EXPECT_EQ(grammar.status().message().find('\n'), std::string::npos);
    return std::string(grammar.status().message());
  }
  std::string Refusal(const Json& schema) const {
    return Refusal(RuleKind::kJsonSchema, schema.dump());
  }
  std::string RefusalOfLark(const std::string& grammar) const {
    return Refusal(RuleKind::kLark, grammar);
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<GrammarVocab> vocab_;
};

TEST_F(GrammarCostTest, AMultipleOfMoreUnitsThanCanBeFollowedIsRefused) {
  EXPECT_EQ(Refusal({{"type", "number"}, {"multipleOf", 277777777}}),
            "multipleOf is 277777777, at most 10000 units of its last decimal "
            "can be followed");
  EXPECT_THAT(Refusal(Json::parse(
                  R"({"$defs": {"n": {"type": "object",
                        "properties": {"next": {"$ref": "#/$defs/n"}}}},
                      "anyOf": [{"$ref": "#/$defs/n"},
                                {"type": "array", "minItems": 1},
                                {"allOf": [{"type": "number"},
                                           {"multipleOf": 277777777}]}]})")),
              HasSubstr("multipleOf is 277777777"));
  EXPECT_THAT(Refusal({{"type", "number"}, {"multipleOf", 123.4567}}),
              HasSubstr("multipleOf is 123.4567"));
  EXPECT_THAT(Refusal({{"type", "number"}, {"multipleOf", 1e-12}}),
              HasSubstr("take one with fewer digits"));
  EXPECT_THAT(Refusal({{"type", "number"}, {"multipleOf", 0}}),
              HasSubstr("it has to be more than 0"));
  EXPECT_THAT(Refusal({{"type", "number"}, {"multipleOf", -2}}),
              HasSubstr("it has to be more than 0"));
  for (const double multiple : {3.0, 0.01, 0.25, 997.0, 1e-9}) {
    EXPECT_EQ(Refusal({{"type", "number"}, {"multipleOf", multiple}}), "")
        << multiple;
  }
  // As many units as can be followed, if the processor is fast enough.
  EXPECT_THAT(Refusal({{"type", "number"}, {"multipleOf", 9973.0}}),
              testing::AnyOf("", HasSubstr("ms of processor time")));
}

TEST_F(GrammarCostTest, MergedMultiplesAreBoundedByWhatTheyHaveInCommon) {
  const std::string message = "merged (allOf, anyOf, $ref)";
  // 65536 * 65537 is 65536 in 32 bits.
  EXPECT_THAT(Refusal(Json::parse(R"({"type": "integer", "allOf": [
                  {"multipleOf": 4096}, {"multipleOf": 6561}]})")),
              HasSubstr(message));
  EXPECT_THAT(Refusal(Json::parse(R"({"$defs": {"a": {"multipleOf": 997}},
                  "type": "integer", "multipleOf": 991,
                  "$ref": "#/$defs/a"})")),
              HasSubstr(message));
  EXPECT_THAT(Refusal(Json::parse(R"({"allOf": [
                  {"properties": {"a": {"type": "number", "multipleOf": 211}}},
                  {"properties": {"a": {"multipleOf": 0.7}}}]})")),
              HasSubstr(message));
  EXPECT_THAT(Refusal(Json::parse(R"({"type": "integer", "multipleOf": 997,
                  "anyOf": [{"multipleOf": 991}, {"minimum": 3}]})")),
              HasSubstr(message));
  // What stays apart may be as different as it likes.
  EXPECT_EQ(Refusal(Json::parse(R"({"type": "object", "properties": {
                "a": {"type": "integer", "multipleOf": 997},
                "b": {"type": "integer", "multipleOf": 991},
                "c": {"anyOf": [{"type": "integer", "multipleOf": 983},
                                {"type": "integer", "multipleOf": 977}]}},
                "required": ["a", "b", "c"]})")),
            "");
  EXPECT_EQ(Refusal(Json::parse(R"({"type": "number", "allOf": [
                {"multipleOf": 0.01}, {"multipleOf": 12}]})")),
            "");
  // A value that only looks like a schema.
  EXPECT_EQ(Refusal(Json::parse(R"({"type": "integer",
                "default": {"multipleOf": 277777777}})")),
            "");
}

TEST_F(GrammarCostTest, CountsOfASchemaAreRefusedByNameAndNumber) {
  Json many = Json::object();
  Json names = Json::array();
  Json branches = Json::array();
  for (int i = 0; i < 2000; ++i) {
    const std::string name = absl::StrCat("k", i);
    many[name] = {{"type", "integer"}};
    names.push_back(name);
    branches.push_back({{"const", i}});
  }
  EXPECT_EQ(Refusal({{"type", "object"}, {"properties", many}}),
            "properties has 2000 properties that are not required, at most 400 "
            "can be followed");
  EXPECT_EQ(
      Refusal({{"type", "object"}, {"properties", many}, {"required", names}}),
      "properties has 2000 properties, at most 1000 can be followed");
  EXPECT_EQ(Refusal({{"type", "object"}, {"required", names}}),
            "properties has 2000 properties, at most 1000 can be followed");
  EXPECT_EQ(Refusal({{"type", "object"}, {"patternProperties", many}}),
            "patternProperties has 2000 patterns, at most 64 can be followed");
  EXPECT_EQ(Refusal({{"anyOf", branches}}),
            "anyOf has 2000 schemas, at most 1000 can be followed");
  EXPECT_EQ(Refusal({{"prefixItems", branches}}),
            "prefixItems has 2000 schemas, at most 1000 can be followed");
  EXPECT_EQ(Refusal({{"type", "string"}, {"maxLength", 10'000'000'000}}),
            "maxLength is 10000000000, at most 4294967295 can be followed");
  EXPECT_EQ(Refusal({{"enum", Json(std::vector<int>(10'001, 7))}}),
            "enum has 10001 members, at most 10000 can be followed");
  EXPECT_EQ(Refusal(RuleKind::kChoice,
                    Json(std::vector<std::string>(10'001, "a")).dump()),
            "it has 10001 choices, at most 10000 can be followed");
}

TEST_F(GrammarCostTest, LargeCountsThatCostNothingAreFollowed) {
  for (const char* key : {"minLength", "maxLength"}) {
    EXPECT_EQ(Refusal({{"type", "string"}, {key, 4'000'000'000}}), "");
  }
  for (const char* key : {"minItems", "maxItems"}) {
    EXPECT_EQ(Refusal({{"type", "array"},
                       {"items", {{"type", "null"}}},
                       {key, 4'000'000'000}}),
              "");
  }
  EXPECT_EQ(Refusal({{"type", "integer"},
                     {"minimum", -999999999999999999},
                     {"maximum", 999999999999999999}}),
            "");
  EXPECT_EQ(Refusal(RuleKind::kRegex, "[ab]{1000000}"), "");
  EXPECT_EQ(Refusal(RuleKind::kRegex, "(a|b)*a(a|b){30}"), "");
  EXPECT_THAT(Refusal(RuleKind::kRegex, "a{10000000000}"),
              HasSubstr("regex parse error"));
}

TEST_F(GrammarCostTest, IntersectionsOfLongCountsAreRefused) {
  EXPECT_THAT(RefusalOfLark("start: T\nT: /([a-z]{997})*/ & "
                            "/([a-z]{991})*/\n"),
              HasSubstr("the product of its counts {m,n} is more than 10000"));
  std::vector<std::string> parts;
  for (int i = 2; i < 12; ++i) parts.push_back(absl::StrCat("/(.{", i, "})*/"));
  EXPECT_EQ(RefusalOfLark("start: T\nT: " + absl::StrJoin(parts, " & ")),
            "it has 9 intersections (&), at most 4 can be followed");
  EXPECT_EQ(RefusalOfLark("start: T\nT: /([ab]{7})*/ & /([ab]{11})*/\n"), "");
  // What is in strings and comments counts for nothing.
  EXPECT_EQ(RefusalOfLark("start: \"&&&&&\" X // &&&&&\n"
                          "X: /[ab]{5000}/ \"{9999}\"\n"),
            "");
}

// Forty ways to part every text, and more with each token.
TEST_F(GrammarCostTest, ATextThatTakesTooLongToFollowEndsByItsBudget) {
  std::vector<std::string> ways;
  std::string way = "e";
  for (int i = 0; i < 40; ++i) ways.push_back(way += " e");
  auto grammar = vocab_->Compile(
      RuleKind::kLark, absl::StrCat("start: e\ne: ", absl::StrJoin(ways, " | "),
                                    " | \"a\" | \n"));
  absl::Status status = grammar.status();
  const TokenId a = *tokenizer_->TokenToId("a");
  for (int i = 0; i < 1000 && status.ok(); ++i) {
    status = grammar->Accept({&a, 1});
    if (status.ok()) status = grammar->NextTokens().status();
  }
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              testing::AnyOf(HasSubstr("more than 100 ms of processor time"),
                             HasSubstr("max is 2000")));
  // Others are not concerned.
  EXPECT_EQ(RefusalOfLark("start: \"a\""), "");
}

TEST_F(GrammarCostTest, ARuleThatTakesTooLongToCompileIsGivenUp) {
  // Runs of as many letters as 997, 991 and 983 divide: no count tells.
  std::vector<std::string> parts;
  for (const int length : {997, 991, 983}) {
    parts.push_back(absl::StrCat("/(", std::string(length, 'a'), ")*/"));
  }
  EXPECT_EQ(RefusalOfLark("start: T\nT: " + absl::StrJoin(parts, " & ")),
            "it takes more than 1000 ms of processor time to compile");
  EXPECT_EQ(RefusalOfLark("start: \"a\""), "");
}

}  // namespace
}  // namespace quire
