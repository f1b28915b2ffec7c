// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/token_rules.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "coordinator/gateway/validation.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/letters_tokenizer.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelLimits Limits() {
  ModelLimits limits;
  limits.model_name = "tiny";
  limits.vocab_size = 1000;
  limits.max_model_len = 8192;
  limits.eos_token_ids = {2};
  limits.max_text_bytes = 100;
  return limits;
}

using Params = v1::SamplingParams;

absl::StatusOr<ValidatedRequest> Validate(
    const std::function<void(Params*)>& set,
    const ModelLimits& limits = Limits()) {
  v1::GenerateRequest request;
  request.mutable_token_ids()->add_ids(1);
  set(request.mutable_sampling());
  return ValidateGenerate(request, limits);
}

TEST(TokenRulesTest, EveryFieldOutOfItsRangeIsNamedWithValueAndRange) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  struct {
    std::function<void(Params*)> set;
    const char* message;
  } cases[] = {
      {[](Params* p) { (*p->mutable_logit_bias())[1000] = 1; },
       "logit_bias holds id 1000; the vocabulary's ids are 0 to 999"},
      {[](Params* p) { (*p->mutable_logit_bias())[7] = 100.5f; },
       "logit_bias=100.5 of token 7 is out of range; it must be between -100 "
       "and 100"},
      {[](Params* p) { (*p->mutable_logit_bias())[7] = -101; },
       "logit_bias=-101 of token 7 is out of range; it must be between -100 "
       "and 100"},
      {[](Params* p) { (*p->mutable_logit_bias())[7] = kNan; },
       "logit_bias=nan of token 7 is out of range; it must be between -100 "
       "and 100"},
      {[](Params* p) {
         for (int i = 0; i < 1025; ++i) (*p->mutable_logit_bias())[i] = 1;
       },
       "logit_bias has 1025 tokens; it may have at most 1024"},
      {[](Params* p) { p->mutable_allowed_token_ids(); },
       "allowed_token_ids is empty; leave it out to allow all tokens"},
      {[](Params* p) { p->mutable_allowed_token_ids()->add_ids(1000); },
       "allowed_token_ids holds id 1000; the vocabulary's ids are 0 to 999"},
      {[](Params* p) { p->add_bad_words(" "); },
       "bad_words[0] is empty; leave it out"},
      {[](Params* p) {
         p->add_bad_words("a");
         p->add_bad_words(std::string(257, 'x'));
       },
       "bad_words[1] has 257 bytes; it may have at most 256"},
      {[](Params* p) {
         for (int i = 0; i < 65; ++i) p->add_bad_words("a");
       },
       "bad_words has 65 words; it may have at most 64"},
      {[](Params* p) { p->set_prompt_logprobs(21); },
       "prompt_logprobs=21 is out of range; it must be at most 20"},
      {[](Params* p) { p->set_truncate_prompt_tokens(0); },
       "truncate_prompt_tokens=0 is out of range; it must be at least 1"},
      {[](Params* p) { p->mutable_structured_output(); },
       "structured_output has no rule; set json_schema, json_object, regex, "
       "choice or grammar"},
      {[](Params* p) { p->mutable_structured_output()->set_regex(""); },
       "regex is empty; give a rule"},
      {[](Params* p) {
         p->mutable_structured_output()->set_json_object(false);
       },
       "json_object=false says nothing; set it or leave it out"},
      {[](Params* p) { p->mutable_structured_output()->mutable_choice(); },
       "choice is empty; give at least one string"},
      {[](Params* p) {
         p->mutable_structured_output()->mutable_choice()->add_values("");
       },
       "choice[0] is empty; leave it out"},
      {[](Params* p) {
         p->mutable_structured_output()->set_grammar(
             std::string((256 << 10) + 1, 'a'));
       },
       "grammar has 262145 bytes; it may have at most 262144"},
      {[](Params* p) {
         p->mutable_structured_output()->set_json_object(true);
         p->set_ignore_eos(true);
       },
       "ignore_eos has no meaning for structured_output, which ends where its "
       "rule does; leave it out"},
  };
  for (const auto& c : cases) {
    const absl::Status status = Validate(c.set).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << c.message;
    EXPECT_EQ(status.message(), c.message);
  }
}

TEST(TokenRulesTest, BeamsTakeNoRules) {
  const std::vector<std::function<void(Params*)>> rules = {
      [](Params* p) { (*p->mutable_logit_bias())[1] = 1; },
      [](Params* p) { p->add_bad_words("a"); },
      [](Params* p) { p->mutable_allowed_token_ids()->add_ids(1); },
      [](Params* p) { p->mutable_structured_output()->set_regex("a"); },
  };
  for (const auto& rule : rules) {
    const absl::Status status = Validate([&](Params* p) {
                                  p->set_beam_width(4);
                                  rule(p);
                                }).status();
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("has no meaning for beam_width=4; leave it out"));
  }
  EXPECT_TRUE(Validate([](Params* p) {
                p->set_beam_width(4);
                p->set_prompt_logprobs(3);
                p->set_echo(true);
              }).ok());
}

TEST(TokenRulesTest, WithoutATokenizerThereIsNoTextToRule) {
  ModelLimits limits = Limits();
  limits.max_text_bytes = 0;
  EXPECT_THAT(
      std::string(Validate([](Params* p) { p->add_bad_words("a"); }, limits)
                      .status()
                      .message()),
      HasSubstr("this server runs without one; use logit_bias"));
  EXPECT_THAT(
      std::string(Validate(
                      [](Params* p) {
                        p->mutable_structured_output()->set_json_object(true);
                      },
                      limits)
                      .status()
                      .message()),
      HasSubstr("this server runs without one; use allowed_token_ids"));
}

TEST(TokenRulesTest, WhatIsInRangeArrives) {
  const auto valid = Validate([](Params* p) {
    (*p->mutable_logit_bias())[999] = -100;
    (*p->mutable_logit_bias())[0] = 100;
    for (uint32_t id : {9, 4, 9}) p->mutable_allowed_token_ids()->add_ids(id);
    p->add_bad_words("damn");
    p->set_prompt_logprobs(0);
    p->set_truncate_prompt_tokens(5);
    p->set_echo(true);
    auto* choice = p->mutable_structured_output()->mutable_choice();
    choice->add_values("y\"es");
    choice->add_values("no");
  });
  ASSERT_TRUE(valid.ok()) << valid.status();
  const SlotSampling& slot = valid->sampling.slot;
  EXPECT_EQ(slot.logit_bias, (std::vector<TokenBias>{{0, 100}, {999, -100}}));
  EXPECT_THAT(slot.allowed_token_ids, ElementsAre(4, 9));
  EXPECT_TRUE(slot.needs_mask);
  EXPECT_EQ(slot.num_prompt_logprobs, 0);
  EXPECT_TRUE(valid->sampling.echo);
  EXPECT_THAT(valid->rules.bad_words, ElementsAre("damn"));
  EXPECT_EQ(valid->rules.truncate_prompt_tokens, 5);
  ASSERT_TRUE(valid->rules.structure.has_value());
  EXPECT_EQ(valid->rules.structure->kind, RuleKind::kChoice);
  EXPECT_EQ(valid->rules.structure->rule, R"(["y\"es","no"])");
  EXPECT_EQ(valid->rules.structure->name, "choice");
}

TEST(TokenRulesTest, SilenceAsksForNothing) {
  const auto valid = Validate([](Params*) {});
  ASSERT_TRUE(valid.ok());
  EXPECT_TRUE(valid->sampling.slot.logit_bias.empty());
  EXPECT_TRUE(valid->sampling.slot.allowed_token_ids.empty());
  EXPECT_FALSE(valid->sampling.slot.needs_mask);
  EXPECT_EQ(valid->sampling.slot.num_prompt_logprobs, -1);
  EXPECT_FALSE(valid->sampling.echo);
  EXPECT_FALSE(valid->rules.structure.has_value());
}

// Where a space makes a word another token (GPT-2's way), both are bad; where
// it is a token before the word, the word alone says it all.
TEST(TokenRulesTest, ABadWordIsSpeltAsItsTokenizerWould) {
  const auto letters = MakeLettersTokenizer();
  const auto plain = BadWordTokens(*letters, {" ab", "c"});
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_THAT(*plain, ElementsAre(ElementsAre(1, 2), ElementsAre(3)));

  const auto words = Tokenizer::FromJson(R"({"version": "1.0",
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
                        "trim_offsets": true, "use_regex": true},
      "decoder": {"type": "ByteLevel", "add_prefix_space": false,
                  "trim_offsets": true, "use_regex": true},
      "model": {"type": "WordLevel", "unk_token": "u",
                "vocab": {"u": 0, "ab": 1, "Ġab": 2}}})");
  ASSERT_TRUE(words.ok()) << words.status();
  const auto both = BadWordTokens(**words, {"ab"});
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_THAT(*both, ElementsAre(ElementsAre(1), ElementsAre(2)));
}

}  // namespace
}  // namespace quire
