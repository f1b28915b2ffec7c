// SPDX-License-Identifier: Apache-2.0
//
// Flags for which tokens an output may hold and what its text must be.
#ifndef TOOLS_QUIRE_TOKEN_RULE_FLAGS_H_
#define TOOLS_QUIRE_TOKEN_RULE_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/types.pb.h"
#include "tools/cli/flag_set.h"

namespace quire {

struct TokenRuleFlags {
  std::vector<std::string> logit_bias;  // "id:bias"
  std::vector<std::string> bad_words;
  std::optional<std::vector<std::string>> allowed_token_ids;
  std::optional<int64_t> prompt_logprobs;
  std::optional<bool> echo;
  std::optional<int64_t> truncate_prompt_tokens;
  std::string json_schema;  // itself, or "@" and a file's path
  bool json_object = false;
  std::string regex;
  std::vector<std::string> choice;
  std::string grammar;  // as json_schema
};

// Borrows `rules` for the life of `flags`.
void AddTokenRuleFlags(TokenRuleFlags* rules, FlagSet* flags);

// Sets what was set. InvalidArgument for what no field can hold, as text that
// is not UTF-8, and for more than one rule of text; NotFound for a file that is
// not there.
absl::Status SetTokenRules(const TokenRuleFlags& rules,
                           v1::SamplingParams* params);

}  // namespace quire

#endif  // TOOLS_QUIRE_TOKEN_RULE_FLAGS_H_
