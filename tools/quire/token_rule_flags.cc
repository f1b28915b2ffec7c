// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/token_rule_flags.h"

#include <fstream>
#include <iterator>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/request_limits.h"
#include "common/status_macros.h"
#include "tools/cli/integer_flag.h"
#include "tools/quire/text_check.h"

namespace quire {
namespace {

absl::Status SetIds(const std::optional<std::vector<std::string>>& texts,
                    v1::SamplingParams* params) {
  if (!texts.has_value()) return absl::OkStatus();
  if (texts->empty()) {
    return absl::InvalidArgumentError(
        "--allowed_token_ids is empty; leave it out to allow all tokens");
  }
  for (const std::string& text : *texts) {
    uint32_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--allowed_token_ids: ", text, " is not a token id"));
    }
    params->mutable_allowed_token_ids()->add_ids(id);
  }
  return absl::OkStatus();
}

absl::Status SetBiases(const std::vector<std::string>& texts,
                       v1::SamplingParams* params) {
  for (const std::string& text : texts) {
    const std::vector<std::string> parts = absl::StrSplit(text, ':');
    uint32_t id;
    float bias;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &id) ||
        !absl::SimpleAtof(parts[1], &bias)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--logit_bias: ", text,
                       " is not a token id and its bias, such as 50256:-100"));
    }
    (*params->mutable_logit_bias())[id] = bias;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TextOrFile(const char* name,
                                       const std::string& value) {
  const std::string flag = absl::StrCat("--", name);
  if (!absl::StartsWith(value, "@")) {
    QUIRE_RETURN_IF_ERROR(CheckText(flag, value));
    return value;
  }
  const std::string path = value.substr(1);
  std::ifstream file(path);
  if (!file.is_open()) {
    return absl::NotFoundError(absl::StrCat(flag, ": cannot read ", path));
  }
  const std::string text(std::istreambuf_iterator<char>(file), {});
  QUIRE_RETURN_IF_ERROR(CheckText(absl::StrCat(flag, ": ", path), text));
  return text;
}

absl::Status SetStructure(const TokenRuleFlags& rules,
                          v1::SamplingParams* params) {
  const int num_rules = !rules.json_schema.empty() + rules.json_object +
                        !rules.regex.empty() + !rules.choice.empty() +
                        !rules.grammar.empty();
  if (num_rules == 0) return absl::OkStatus();
  if (num_rules > 1) {
    return absl::InvalidArgumentError(
        "give one of --json_schema, --json_object, --regex, --choice and "
        "--grammar");
  }
  v1::StructuredOutput* structure = params->mutable_structured_output();
  if (!rules.json_schema.empty()) {
    QUIRE_ASSIGN_OR_RETURN(*structure->mutable_json_schema(),
                           TextOrFile("json_schema", rules.json_schema));
  } else if (rules.json_object) {
    structure->set_json_object(true);
  } else if (!rules.regex.empty()) {
    QUIRE_RETURN_IF_ERROR(CheckText("--regex", rules.regex));
    structure->set_regex(rules.regex);
  } else if (!rules.choice.empty()) {
    for (const std::string& choice : rules.choice) {
      QUIRE_RETURN_IF_ERROR(CheckText("--choice", choice));
      structure->mutable_choice()->add_values(choice);
    }
  } else {
    QUIRE_ASSIGN_OR_RETURN(*structure->mutable_grammar(),
                           TextOrFile("grammar", rules.grammar));
  }
  return absl::OkStatus();
}

}  // namespace

void AddTokenRuleFlags(TokenRuleFlags* rules, FlagSet* flags) {
  flags->AddList("logit_bias", &rules->logit_bias,
                 "add -100..100 to tokens' logits, such as 50256:-100,11:2.5");
  flags->AddRepeated("bad_words", &rules->bad_words,
                     "never write this; may be given several times");
  flags->AddList("allowed_token_ids", &rules->allowed_token_ids,
                 "write these token ids only");
  flags->Add("prompt_logprobs", &rules->prompt_logprobs,
             "0..20; with --json, report log probabilities of the prompt's "
             "tokens and of this many of the likeliest");
  flags->Add("echo", &rules->echo, "write the prompt, too");
  flags->Add("truncate_prompt_tokens", &rules->truncate_prompt_tokens,
             "keep only so many of the prompt's last tokens");
  flags->Add("json_schema", &rules->json_schema,
             "write JSON that this schema allows; @FILE reads it from a file");
  flags->Add("json_object", &rules->json_object, "write a JSON object");
  flags->Add("regex", &rules->regex,
             "write a text that this regular expression matches");
  flags->AddRepeated("choice", &rules->choice,
                     "write one of these; may be given several times");
  flags->Add("grammar", &rules->grammar,
             "write a text of this Lark grammar; @FILE reads it from a file");
}

absl::Status SetTokenRules(const TokenRuleFlags& rules,
                           v1::SamplingParams* params) {
  QUIRE_RETURN_IF_ERROR(SetBiases(rules.logit_bias, params));
  QUIRE_RETURN_IF_ERROR(SetIds(rules.allowed_token_ids, params));
  for (const std::string& word : rules.bad_words) {
    QUIRE_RETURN_IF_ERROR(CheckText("--bad_words", word));
    params->add_bad_words(word);
  }
  if (rules.prompt_logprobs) {
    QUIRE_ASSIGN_OR_RETURN(
        const uint32_t num,
        InRange<uint32_t>("prompt_logprobs", *rules.prompt_logprobs, 0,
                          kMaxRequestLogprobs));
    params->set_prompt_logprobs(num);
  }
  if (rules.truncate_prompt_tokens) {
    QUIRE_ASSIGN_OR_RETURN(const uint32_t num,
                           InRange<uint32_t>("truncate_prompt_tokens",
                                             *rules.truncate_prompt_tokens, 1));
    params->set_truncate_prompt_tokens(num);
  }
  if (rules.echo) params->set_echo(*rules.echo);
  return SetStructure(rules, params);
}

}  // namespace quire
