// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/token_rule_flags.h"

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

absl::StatusOr<v1::SamplingParams> Parse(const std::vector<std::string>& args) {
  TokenRuleFlags rules;
  FlagSet flags("test", "");
  AddTokenRuleFlags(&rules, &flags);
  const auto positional = flags.Parse(args);
  if (!positional.ok()) return positional.status();
  v1::SamplingParams params;
  const absl::Status status = SetTokenRules(rules, &params);
  if (!status.ok()) return status;
  return params;
}

TEST(TokenRuleFlagsTest, SilenceSetsNothing) {
  const auto params = Parse({});
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->ByteSizeLong(), 0);
}

TEST(TokenRuleFlagsTest, EveryFlagReachesItsField) {
  const auto params =
      Parse({"--logit_bias=7:-100,8:2.5", "--bad_words=a b", "--bad_words=c",
             "--allowed_token_ids=1,2", "--prompt_logprobs=0", "--echo",
             "--truncate_prompt_tokens=9", "--regex=[a-z]+"});
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->logit_bias().at(7), -100);
  EXPECT_EQ(params->logit_bias().at(8), 2.5);
  EXPECT_EQ(params->bad_words(0), "a b");
  EXPECT_EQ(params->bad_words_size(), 2);
  EXPECT_EQ(params->allowed_token_ids().ids_size(), 2);
  EXPECT_TRUE(params->has_prompt_logprobs());
  EXPECT_TRUE(params->echo());
  EXPECT_EQ(params->truncate_prompt_tokens(), 9);
  EXPECT_EQ(params->structured_output().regex(), "[a-z]+");
  EXPECT_TRUE(Parse({"--json_object"})->structured_output().json_object());
  EXPECT_EQ(Parse({"--choice=a", "--choice=b"})
                ->structured_output()
                .choice()
                .values_size(),
            2);
  EXPECT_EQ(Parse({"--json_schema={}"})->structured_output().json_schema(),
            "{}");
}

TEST(TokenRuleFlagsTest, SchemasAndGrammarsMayLieInFiles) {
  const std::string path =
      absl::StrCat(std::getenv("TEST_TMPDIR"), "/grammar.lark");
  std::ofstream(path) << "start: \"a\"\n";
  const auto params = Parse({absl::StrCat("--grammar=@", path)});
  ASSERT_TRUE(params.ok()) << params.status();
  EXPECT_EQ(params->structured_output().grammar(), "start: \"a\"\n");
  EXPECT_EQ(Parse({"--json_schema=@/nowhere"}).status().message(),
            "--json_schema: cannot read /nowhere");
}

TEST(TokenRuleFlagsTest, TextThatIsNotUtf8IsRefusedWithItsFlag) {
  for (const std::string flag :
       {"--bad_words", "--choice", "--regex", "--json_schema", "--grammar"}) {
    EXPECT_EQ(Parse({flag + "=ab\xff"}).status().message(),
              flag +
                  " is not UTF-8: bad byte at offset 2 of 3; convert it, "
                  "such as with iconv");
  }
  const std::string path =
      absl::StrCat(std::getenv("TEST_TMPDIR"), "/latin.lark");
  std::ofstream(path) << "start: \"\xe9\"\n";
  EXPECT_EQ(Parse({absl::StrCat("--grammar=@", path)}).status().message(),
            absl::StrCat("--grammar: ", path,
                         " is not UTF-8: bad byte at offset 8 of 11; convert "
                         "it, such as with iconv"));
}

TEST(TokenRuleFlagsTest, NoAllowedTokenIsNotEveryToken) {
  for (const std::string flag :
       {"--allowed_token_ids=", "--allowed_token_ids=,"}) {
    EXPECT_EQ(Parse({flag}).status().message(),
              "--allowed_token_ids is empty; leave it out to allow all tokens");
  }
}

TEST(TokenRuleFlagsTest, WhatNoFieldCanHoldIsNamed) {
  EXPECT_EQ(Parse({"--logit_bias=7"}).status().message(),
            "--logit_bias: 7 is not a token id and its bias, such as "
            "50256:-100");
  EXPECT_EQ(Parse({"--allowed_token_ids=x"}).status().message(),
            "--allowed_token_ids: x is not a token id");
  EXPECT_EQ(Parse({"--prompt_logprobs=-1"}).status().message(),
            "--prompt_logprobs=-1 is outside 0..20");
  EXPECT_EQ(Parse({"--prompt_logprobs=21"}).status().message(),
            "--prompt_logprobs=21 is outside 0..20");
  EXPECT_EQ(Parse({"--truncate_prompt_tokens=0"}).status().message(),
            "--truncate_prompt_tokens=0 is outside 1..4294967295");
  EXPECT_EQ(Parse({"--json_object", "--regex=a"}).status().message(),
            "give one of --json_schema, --json_object, --regex, --choice and "
            "--grammar");
}

}  // namespace
}  // namespace quire
