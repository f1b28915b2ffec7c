// SPDX-License-Identifier: Apache-2.0
#include "common/text/grammar.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/common/text/text_testing.h"

namespace quire {
namespace {

// A tokenizer and its vocabulary; its last token, which is added, ends a text.
struct World {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<GrammarVocab> vocab;
  TokenId eos = 0;
};

World MakeWorld(const std::string& name) {
  nlohmann::json json = nlohmann::json::parse(ReadTestData(name));
  World world;
  world.eos = 0;
  if (const auto& vocab = json["model"]["vocab"]; vocab.is_array()) {
    world.eos = static_cast<TokenId>(vocab.size());
  } else {
    for (const auto& [piece, id] : vocab.items()) {
      world.eos = std::max(world.eos, id.get<TokenId>() + 1);
    }
  }
  for (const auto& token : json["added_tokens"]) {
    world.eos = std::max(world.eos, token["id"].get<TokenId>() + 1);
  }
  json["added_tokens"].push_back({{"id", world.eos},
                                  {"content", "<|the end|>"},
                                  {"special", true},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", false}});
  auto tokenizer = Tokenizer::FromJson(json.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  world.tokenizer = *std::move(tokenizer);
  auto vocab = GrammarVocab::Create(*world.tokenizer,
                                    world.tokenizer->vocab_size(), {world.eos});
  EXPECT_TRUE(vocab.ok()) << vocab.status();
  world.vocab = *std::move(vocab);
  return world;
}

std::vector<TokenId> Allowed(const std::vector<uint32_t>& words) {
  std::vector<TokenId> ids;
  for (TokenId id = 0; id < static_cast<TokenId>(32 * words.size()); ++id) {
    if ((words[id / 32] >> (id % 32) & 1) != 0) ids.push_back(id);
  }
  return ids;
}

// A random text of the rule: its tokens without the end, or nothing if it did
// not end within `max_tokens`.
std::optional<std::vector<TokenId>> RandomText(const World& world,
                                               Grammar grammar,
                                               std::mt19937_64* random,
                                               size_t max_tokens = 300) {
  std::vector<TokenId> tokens;
  while (tokens.size() < max_tokens) {
    const auto words = grammar.NextTokens();
    EXPECT_TRUE(words.ok()) << words.status();
    if (!words.ok()) return std::nullopt;
    const std::vector<TokenId> allowed = Allowed(*words);
    const TokenId token = allowed[(*random)() % allowed.size()];
    const absl::Status accepted = grammar.Accept({&token, 1});
    EXPECT_TRUE(accepted.ok()) << accepted;
    if (token == world.eos) {
      EXPECT_TRUE(grammar.is_done());
      return tokens;
    }
    tokens.push_back(token);
  }
  return std::nullopt;
}

// They can spell every byte.
const char* const kTokenizers[] = {"byte_level.json", "byte_fallback.json",
                                   "gpt2.json"};

TEST(GrammarTest, ARandomTextOfAChoiceIsOneOfIt) {
  std::mt19937_64 random(1);
  const std::vector<std::string> choices = {"yes", "no", "nobody (1.5*x) [a]"};
  for (const char* name : kTokenizers) {
    SCOPED_TRACE(name);
    const World world = MakeWorld(name);
    const auto grammar =
        world.vocab->Compile(RuleKind::kChoice, nlohmann::json(choices).dump());
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    for (int i = 0; i < 30; ++i) {
      const auto tokens = RandomText(world, *grammar->Clone(), &random);
      ASSERT_TRUE(tokens.has_value());
      const auto text = world.tokenizer->Decode(*tokens, true);
      EXPECT_NE(std::find(choices.begin(), choices.end(), *text), choices.end())
          << *text;
    }
  }
}

TEST(GrammarTest, RandomObjectsAreJsonThatHasWhatTheSchemaSays) {
  std::mt19937_64 random(2);
  const char* const schema = R"({"type": "object", "properties": {
      "name": {"type": "string", "maxLength": 5},
      "kind": {"enum": ["a", 7, null, "é"]},
      "size": {"type": "integer", "minimum": -3, "maximum": 12},
      "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
      "required": ["name", "kind", "size"], "additionalProperties": false})";
  for (const char* name : kTokenizers) {
    SCOPED_TRACE(name);
    const World world = MakeWorld(name);
    const auto grammar = world.vocab->Compile(RuleKind::kJsonSchema, schema);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    int num_ended = 0;
    for (int i = 0; i < 40; ++i) {
      const auto tokens = RandomText(world, *grammar->Clone(), &random);
      if (!tokens.has_value()) continue;
      ++num_ended;
      const auto text = world.tokenizer->Decode(*tokens, true);
      const auto json = nlohmann::json::parse(*text, nullptr, false);
      ASSERT_TRUE(json.is_object()) << *text;
      EXPECT_TRUE(json["name"].is_string());
      const int64_t size = json["size"].get<int64_t>();
      EXPECT_TRUE(size >= -3 && size <= 12) << *text;
      EXPECT_LE(json.size(), 4);
    }
    EXPECT_GT(num_ended, 20);
  }
}

TEST(GrammarTest, WhatAVocabularyCannotSpellIsRefusedOrADeadEnd) {
  const World world = MakeWorld("unigram.json");
  EXPECT_EQ(world.vocab->Compile(RuleKind::kRegex, "☃").status().message(),
            "no token of the vocabulary continues a text that does");
  auto grammar = world.vocab->Compile(RuleKind::kRegex, "a☃");
  ASSERT_TRUE(grammar.ok()) << grammar.status();
  const TokenId a = *world.tokenizer->TokenToId("a");
  ASSERT_TRUE(grammar->Accept({&a, 1}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(grammar->NextTokens().status()));
}

TEST(GrammarTest, RegexAndLarkSayWhatMayComeAndWhatEndsIt) {
  const World world = MakeWorld("byte_level.json");
  for (const auto& [kind, rule] :
       {std::pair(RuleKind::kRegex, "[ab]{2}"),
        std::pair(RuleKind::kLark, "start: X X\nX: \"a\" | \"b\"\n")}) {
    auto grammar = world.vocab->Compile(kind, rule);
    ASSERT_TRUE(grammar.ok()) << grammar.status();
    std::vector<std::string> pieces;
    for (TokenId id : Allowed(*grammar->NextTokens())) {
      pieces.push_back(*world.tokenizer->IdToPiece(id));
    }
    for (const std::string& piece : pieces) {
      EXPECT_TRUE(piece.size() <= 2 &&
                  piece.find_first_not_of("ab") == std::string::npos)
          << piece;
    }
    const TokenId a = *world.tokenizer->TokenToId("a");
    ASSERT_TRUE(grammar->Accept({a}).ok());
    EXPECT_FALSE(grammar->is_done());
    ASSERT_TRUE(grammar->Accept({a}).ok());
    EXPECT_EQ(Allowed(*grammar->NextTokens()), std::vector<TokenId>{world.eos});
  }
}

TEST(GrammarTest, ACloneGoesItsOwnWayAndARollbackGoesBack) {
  const World world = MakeWorld("gpt2.json");
  auto grammar = world.vocab->Compile(RuleKind::kRegex, "(ab|cd)*");
  ASSERT_TRUE(grammar.ok());
  const auto first = *grammar->NextTokens();
  auto clone = grammar->Clone();
  ASSERT_TRUE(clone.ok());
  const TokenId a = *world.tokenizer->TokenToId("a");
  const TokenId b = *world.tokenizer->TokenToId("b");
  ASSERT_TRUE(clone->Accept({a, b, a}).ok());
  EXPECT_NE(*clone->NextTokens(), first);
  EXPECT_EQ(*grammar->NextTokens(), first);
  ASSERT_TRUE(clone->Rollback(3).ok());
  EXPECT_EQ(*clone->NextTokens(), first);
}

TEST(GrammarTest, ATokenThatMayNotComeIsRefusedForGood) {
  const World world = MakeWorld("gpt2.json");
  auto grammar = world.vocab->Compile(RuleKind::kRegex, "ab");
  ASSERT_TRUE(grammar.ok());
  const TokenId b = *world.tokenizer->TokenToId("b");
  EXPECT_TRUE(absl::IsInvalidArgument(grammar->Accept({b})));
  EXPECT_FALSE(grammar->NextTokens().ok());
  EXPECT_FALSE(grammar->Accept({-1}).ok());
}

TEST(GrammarTest, RulesThatNothingFollowsOrThatAreMalformedAreRefused) {
  const World world = MakeWorld("byte_level.json");
  const std::string deep =
      std::string(5000, '(') + "\"a\"" + std::string(5000, ')');
  std::string chain = "start: r0\n";
  for (int i = 0; i < 4000; ++i) {
    absl::StrAppend(&chain, "r", i, ": r", i + 1, " \"x\"\n");
  }
  std::string deep_json;
  for (int i = 0; i < 1000; ++i) deep_json += "{\"items\":";
  struct {
    RuleKind kind;
    std::string rule;
  } cases[] = {
      {RuleKind::kJsonSchema, "{"},
      {RuleKind::kJsonSchema, "false"},
      {RuleKind::kJsonSchema, "[1]"},
      {RuleKind::kJsonSchema, deep_json},
      {RuleKind::kJsonSchema,
       R"({"type": "string", "minLength": 5, "maxLength": 2})"},
      {RuleKind::kJsonSchema,
       R"({"type": "object", "properties": {"a": false}, "required": ["a"]})"},
      {RuleKind::kJsonSchema, R"({"type": "integer", "minimum": 3,
                                  "maximum": 2})"},
      {RuleKind::kJsonSchema, R"({"$ref": "#/$defs/missing"})"},
      {RuleKind::kJsonSchema, R"({"$ref": "https://example.com/schema"})"},
      {RuleKind::kJsonSchema, R"({"type": "spaceship"})"},
      {RuleKind::kRegex, "("},
      {RuleKind::kRegex, "[^\\s\\S]"},
      {RuleKind::kChoice, "[]"},
      {RuleKind::kChoice, "[1]"},
      {RuleKind::kLark, "start: nothing"},
      {RuleKind::kLark, "start: start \"a\""},
      {RuleKind::kLark, deep},
      {RuleKind::kLark, chain},
      {RuleKind::kLark, std::string(100'000, 'a')},
      {RuleKind::kJsonSchema, std::string(300'000, ' ')},
  };
  for (const auto& c : cases) {
    const auto grammar = world.vocab->Compile(c.kind, c.rule);
    EXPECT_TRUE(absl::IsInvalidArgument(grammar.status()))
        << c.rule.substr(0, 60) << ": " << grammar.status();
    EXPECT_EQ(grammar.status().message().find('\n'), std::string::npos);
    EXPECT_FALSE(grammar.status().message().empty());
  }
}

TEST(GrammarTest, RulesThatCanNeverEndAreRefusedByName) {
  const World world = MakeWorld("byte_level.json");
  const std::string node = R"("type": "object", "required": ["x"],
                              "properties": {"x": )";
  struct {
    RuleKind kind;
    std::string rule;
    std::string name;
  } cases[] = {
      {RuleKind::kLark, "start: \"a\" start", "rule \"start\""},
      {RuleKind::kLark, "start: start \"a\"", "rule \"start\""},
      {RuleKind::kLark, "start: start", "rule \"start\""},
      {RuleKind::kLark, "start: a\na: \"x\" b\nb: \"y\" a", "rule \"a\""},
      // Even if others end: who has chosen it never does.
      {RuleKind::kLark, "start: \"b\" | \"c\" a\na: \"x\" a", "rule \"a\""},
      {RuleKind::kLark, "start: \"b\" | c? \"d\"\nc: \"x\" c", "rule \"c\""},
      {RuleKind::kLark, "start: \"b\" (a+)\na: \"x\" a | \"y\" a? a",
       "rule \"a\""},
      {RuleKind::kLark, "start: a{2,3} | b\nb: a\na: \"x\" (a | b)", "rule \""},
      // Not the one that needs the culprit.
      {RuleKind::kLark, "start: a\na: \"x\" a b | b\nb: \"y\" b", "rule \"b\""},
      {RuleKind::kLark,
       "start: \"x\" j\nj: %json {\"type\": \"array\", \"minItems\": 1, "
       "\"items\": {\"$ref\": \"#\"}}",
       "schema \"#\""},
      {RuleKind::kJsonSchema,
       R"({"$ref": "#/$defs/a", "$defs": {"a": {)" + node +
           R"({"$ref": "#/$defs/a"}}}}})",
       "schema \"#/$defs/a\""},
      {RuleKind::kJsonSchema,
       R"({"type": "array", "items": {"$ref": "#"}, "minItems": 1})",
       "schema \"#\""},
      {RuleKind::kJsonSchema,
       R"({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1})",
       "schema \"#\""},
      {RuleKind::kJsonSchema, R"({"$ref": "#"})", "schema \"#\""},
      {RuleKind::kJsonSchema, "{" + node + R"({"anyOf": [{"$ref": "#"},
           {"type": "array", "items": {"$ref": "#"}, "minItems": 2}]}}})",
       "schema \"#\""},
      {RuleKind::kJsonSchema,
       R"({"type": "object", "properties": {"y": {"$ref": "#/$defs/a"}},
           "$defs": {"a": {)" +
           node + R"({"$ref": "#/$defs/a"}}}}})",
       "schema \"#/$defs/a\""},
      {RuleKind::kJsonSchema,
       R"({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}],
           "$defs": {"a": {)" +
           node + R"({"$ref": "#/$defs/a"}}}}})",
       "schema \"#/$defs/a\""},
      {RuleKind::kJsonSchema,
       R"({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/a"},
           "$defs": {"a": {)" +
           node + R"({"$ref": "#/$defs/b"}}}, "b": {)" + node +
           R"({"$ref": "#/$defs/a"}}}}})",
       "schema \"#/$defs/"},
  };
  for (const auto& c : cases) {
    const absl::Status status = world.vocab->Compile(c.kind, c.rule).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.rule << ": " << status;
    EXPECT_EQ(status.message().find(c.name), 0) << c.rule << ": " << status;
  }
  EXPECT_EQ(
      world.vocab->Compile(RuleKind::kLark, cases[0].rule).status().message(),
      "rule \"start\" can never end: each of its alternatives leads back "
      "to it; add one that does not");
}

TEST(GrammarTest, RecursionWithAWayOutIsFollowed) {
  const World world = MakeWorld("byte_level.json");
  const std::pair<RuleKind, std::string> cases[] = {
      {RuleKind::kLark, "start: \"a\" start | \"b\""},
      {RuleKind::kLark, "start: a\na: \"x\" b\nb: \"y\" a | \"z\""},
      {RuleKind::kLark, "start: \"a\" start?"},
      {RuleKind::kLark, "start: \"a\" start*"},
      {RuleKind::kLark, "start: \"a\" start{0,2}"},
      {RuleKind::kLark,
       "start: \"(\" start \")\" | /[0-9]+/ | start \"+\" X\n"
       "X: \"1\"\n%ignore / /"},
      {RuleKind::kLark, "start: \"b\"\nunused: \"a\" unused"},
      // The count in the parameter ends it.
      {RuleKind::kLark,
       "start: a::0\na::_: \"x\" %if is_ones([0:2])\n"
       "  | \"y\" a::incr([0:2]) %if lt([0:2], 3)\n"},
      {RuleKind::kJsonSchema,
       R"({"type": "object", "required": ["value"], "properties":
           {"value": {"type": "integer"}, "next": {"$ref": "#"}},
           "additionalProperties": false})"},
      {RuleKind::kJsonSchema,
       R"({"type": "object", "required": ["next"], "properties":
           {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}})"},
      {RuleKind::kJsonSchema,
       R"({"type": "array", "items": {"$ref": "#"}, "maxItems": 2})"},
      {RuleKind::kJsonSchema,
       R"({"$ref": "#/$defs/a", "$defs": {
           "a": {"type": "object", "required": ["b"],
                 "properties": {"b": {"$ref": "#/$defs/b"}}},
           "b": {"type": "array", "items": {"$ref": "#/$defs/a"}}}})"},
      {RuleKind::kJsonSchema, "{}"},
      {RuleKind::kJsonSchema,
       R"({"type": "string", "$defs": {"a": {"$ref": "#/$defs/a"}}})"},
      {RuleKind::kJsonObject, ""},
      {RuleKind::kRegex, "(a|b)*c"},
  };
  for (const auto& [kind, rule] : cases) {
    const auto grammar = world.vocab->Compile(kind, rule);
    EXPECT_TRUE(grammar.ok()) << rule << ": " << grammar.status();
  }
}

// Byte-level BPE, SentencePiece's BPE with bytes for what it lacks, Unigram.
TEST(GrammarTest, EveryKindWhosePiecesAreTextFollowsRules) {
  std::mt19937_64 random(5);
  for (const char* name : {"byte_level", "gpt2", "qwen", "byte_fallback",
                           "gemma", "metaspace_first", "unigram"}) {
    SCOPED_TRACE(name);
    const World world = MakeWorld(std::string(name) + ".json");
    // A text that the vocabulary can spell.
    const auto ids = world.tokenizer->Encode("hello world, 12 of the", {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    const std::string text = *world.tokenizer->Decode(*ids, true);
    const auto grammar = world.vocab->Compile(
        RuleKind::kChoice,
        nlohmann::json(std::vector<std::string>{text}).dump());
    ASSERT_TRUE(grammar.ok()) << grammar.status() << text;
    for (int i = 0; i < 10; ++i) {
      const auto tokens = RandomText(world, *grammar->Clone(), &random);
      ASSERT_TRUE(tokens.has_value());
      EXPECT_EQ(*world.tokenizer->Decode(*tokens, true), text);
    }
  }
}

// Whether a space stands before such a token, or behind it, is a matter of the
// tokens beside it, so no bytes are its own.
TEST(GrammarTest, TokenizersWhoseTokensHaveNoTextOfTheirOwnAreRefused) {
  for (const auto& [name, decoder] :
       {std::pair("word_piece", "WordPiece"), std::pair("word_level", "none"),
        std::pair("bpe_suffix", "BPEDecoder"), std::pair("ctc", "CTC")}) {
    const auto tokenizer = LoadTestTokenizer(name);
    const auto vocab =
        GrammarVocab::Create(*tokenizer, tokenizer->vocab_size(), {1});
    EXPECT_EQ(vocab.status().message(),
              absl::StrCat("this model's tokenizer cannot be constrained: its "
                           "decoder is ",
                           decoder,
                           ", by which a token's text depends on its "
                           "neighbours"));
  }
}

TEST(GrammarTest, WithoutATokenThatEndsATextThereIsNoVocabulary) {
  const auto tokenizer = Tokenizer::FromJson(ReadTestData("gpt2.json"));
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      GrammarVocab::Create(**tokenizer, 100, {}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      GrammarVocab::Create(**tokenizer, 100, {100}).status()));
}

}  // namespace
}  // namespace quire
