// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/token_rules.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

constexpr int kMaxBiases = 1024;
constexpr float kMaxBias = 100;
constexpr int kMaxBadWords = 64;
constexpr size_t kMaxBadWordBytes = 256;
constexpr size_t kMaxRuleBytes = 256 << 10;
constexpr int kMaxChoices = 1024;

std::string IdError(const std::string& field, uint32_t id, int32_t vocab_size) {
  return absl::StrCat(field, " holds id ", id,
                      "; the vocabulary's ids are 0 to ", vocab_size - 1);
}

void ReadBiases(const v1::SamplingParams& params, int32_t vocab_size,
                SlotSampling* slot, Violations* violations) {
  if (params.logit_bias_size() > kMaxBiases) {
    violations->Add("sampling.logit_bias",
                    absl::StrCat("logit_bias has ", params.logit_bias_size(),
                                 " tokens; it may have at most ", kMaxBiases));
    return;
  }
  for (const auto& [id, bias] : params.logit_bias()) {
    if (id >= static_cast<uint32_t>(vocab_size)) {
      violations->Add("sampling.logit_bias",
                      IdError("logit_bias", id, vocab_size));
      return;
    }
    // False for NaN.
    const bool in_range = bias >= -kMaxBias && bias <= kMaxBias;
    if (!in_range) {
      violations->Add("sampling.logit_bias",
                      absl::StrCat("logit_bias=", bias, " of token ", id,
                                   " is out of range; it must be between -100 "
                                   "and 100"));
      return;
    }
    slot->logit_bias.push_back({static_cast<TokenId>(id), bias});
  }
  std::sort(slot->logit_bias.begin(), slot->logit_bias.end(),
            [](const TokenBias& a, const TokenBias& b) {
              return a.token_id < b.token_id;
            });
}

void ReadAllowed(const v1::SamplingParams& params, int32_t vocab_size,
                 SlotSampling* slot, Violations* violations) {
  if (!params.has_allowed_token_ids()) return;
  const auto& ids = params.allowed_token_ids().ids();
  if (ids.empty()) {
    violations->Add("sampling.allowed_token_ids",
                    "allowed_token_ids is empty; leave it out to allow all "
                    "tokens");
    return;
  }
  for (const uint32_t id : ids) {
    if (id >= static_cast<uint32_t>(vocab_size)) {
      violations->Add("sampling.allowed_token_ids",
                      IdError("allowed_token_ids", id, vocab_size));
      return;
    }
  }
  std::vector<TokenId>& allowed = slot->allowed_token_ids;
  allowed.assign(ids.begin(), ids.end());
  std::sort(allowed.begin(), allowed.end());
  allowed.erase(std::unique(allowed.begin(), allowed.end()), allowed.end());
}

void ReadBadWords(const v1::SamplingParams& params, bool has_tokenizer,
                  TokenRules* rules, Violations* violations) {
  if (params.bad_words_size() == 0) return;
  const auto add = [&](const std::string& description) {
    violations->Add("sampling.bad_words", description);
  };
  if (!has_tokenizer) {
    add("bad_words need a tokenizer, and this server runs without one; use "
        "logit_bias");
    return;
  }
  if (params.bad_words_size() > kMaxBadWords) {
    add(absl::StrCat("bad_words has ", params.bad_words_size(),
                     " words; it may have at most ", kMaxBadWords));
    return;
  }
  for (int i = 0; i < params.bad_words_size(); ++i) {
    const std::string& word = params.bad_words(i);
    if (absl::StripAsciiWhitespace(word).empty()) {
      add(absl::StrCat("bad_words[", i, "] is empty; leave it out"));
    } else if (word.size() > kMaxBadWordBytes) {
      add(absl::StrCat("bad_words[", i, "] has ", word.size(),
                       " bytes; it may have at most ", kMaxBadWordBytes));
    }
    rules->bad_words.push_back(word);
  }
}

std::string ReadChoices(const v1::StringList& choices,
                        TextStructure* structure) {
  if (choices.values().empty()) {
    return "choice is empty; give at least one string";
  }
  if (choices.values_size() > kMaxChoices) {
    return absl::StrCat("choice has ", choices.values_size(),
                        " strings; it may have at most ", kMaxChoices);
  }
  nlohmann::json list = nlohmann::json::array();
  for (int i = 0; i < choices.values_size(); ++i) {
    if (choices.values(i).empty()) {
      return absl::StrCat("choice[", i, "] is empty; leave it out");
    }
    list.push_back(choices.values(i));
  }
  structure->rule = list.dump();
  return "";
}

// What is wrong with the structure's fields, or nothing.
std::string ReadRule(const v1::StructuredOutput& from, TextStructure* to) {
  const auto take = [to](RuleKind kind, const char* name,
                         const std::string& rule) -> std::string {
    *to = {kind, rule, name};
    return rule.empty() ? absl::StrCat(name, " is empty; give a rule") : "";
  };
  switch (from.rule_case()) {
    case v1::StructuredOutput::kJsonSchema:
      return take(RuleKind::kJsonSchema, "json_schema", from.json_schema());
    case v1::StructuredOutput::kJsonObject:
      *to = {RuleKind::kJsonObject, "", "json_object"};
      return from.json_object()
                 ? ""
                 : "json_object=false says nothing; set it or leave it out";
    case v1::StructuredOutput::kRegex:
      return take(RuleKind::kRegex, "regex", from.regex());
    case v1::StructuredOutput::kChoice:
      *to = {RuleKind::kChoice, "", "choice"};
      return ReadChoices(from.choice(), to);
    case v1::StructuredOutput::kGrammar:
      return take(RuleKind::kLark, "grammar", from.grammar());
    case v1::StructuredOutput::RULE_NOT_SET:
      break;
  }
  return "structured_output has no rule; set json_schema, json_object, regex, "
         "choice or grammar";
}

void ReadStructure(const v1::SamplingParams& params, bool has_tokenizer,
                   SlotSampling* slot, TokenRules* rules,
                   Violations* violations) {
  if (!params.has_structured_output()) return;
  TextStructure structure;
  std::string error = ReadRule(params.structured_output(), &structure);
  if (error.empty() && structure.rule.size() > kMaxRuleBytes) {
    error = absl::StrCat(structure.name, " has ", structure.rule.size(),
                         " bytes; it may have at most ", kMaxRuleBytes);
  }
  if (error.empty() && !has_tokenizer) {
    error =
        "structured_output needs a tokenizer, and this server runs without "
        "one; use allowed_token_ids";
  }
  const std::string field =
      absl::StrCat("sampling.structured_output",
                   structure.name.empty() ? "" : ".", structure.name);
  if (!error.empty()) violations->Add(field, error);
  if (params.ignore_eos()) {
    violations->Add("sampling.ignore_eos",
                    "ignore_eos has no meaning for structured_output, which "
                    "ends where its rule does; leave it out");
  }
  slot->needs_mask = true;
  rules->structure = std::move(structure);
}

}  // namespace

void ReadTokenRules(const v1::SamplingParams& params, int32_t vocab_size,
                    bool has_tokenizer, SamplingParams* sampling,
                    TokenRules* rules, Violations* violations) {
  ReadBiases(params, vocab_size, &sampling->slot, violations);
  ReadAllowed(params, vocab_size, &sampling->slot, violations);
  ReadBadWords(params, has_tokenizer, rules, violations);
  ReadStructure(params, has_tokenizer, &sampling->slot, rules, violations);
  if (params.has_prompt_logprobs()) {
    const uint32_t num = params.prompt_logprobs();
    violations->CheckRange("prompt_logprobs", num, num <= kMaxRequestLogprobs,
                           absl::StrCat("at most ", kMaxRequestLogprobs));
    sampling->slot.num_prompt_logprobs =
        static_cast<int32_t>(std::min(num, kMaxRequestLogprobs));
  }
  if (params.has_truncate_prompt_tokens()) {
    rules->truncate_prompt_tokens = params.truncate_prompt_tokens();
    violations->CheckRange("truncate_prompt_tokens",
                           rules->truncate_prompt_tokens,
                           rules->truncate_prompt_tokens >= 1, "at least 1");
  }
  sampling->echo = params.echo();
}

absl::StatusOr<std::vector<std::vector<TokenId>>> BadWordTokens(
    const Tokenizer& tokenizer, const std::vector<std::string>& words) {
  std::vector<std::vector<TokenId>> runs;
  for (const std::string& word : words) {
    const auto text = absl::StripLeadingAsciiWhitespace(word);
    QUIRE_ASSIGN_OR_RETURN(std::vector<TokenId> first,
                           tokenizer.Encode({text.data(), text.size()}));
    QUIRE_ASSIGN_OR_RETURN(std::vector<TokenId> within,
                           tokenizer.Encode(absl::StrCat(" ", text)));
    const bool is_other = !first.empty() && within.size() == first.size() &&
                          within[0] != first[0];
    if (!first.empty()) runs.push_back(std::move(first));
    if (is_other) runs.push_back(std::move(within));
  }
  return runs;
}

}  // namespace quire
