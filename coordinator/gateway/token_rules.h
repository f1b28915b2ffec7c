// SPDX-License-Identifier: Apache-2.0
//
// What a request says of which tokens its output may hold, and of its prompt's:
// biases, bad words, allowed ids, structure, prompt scores, echo.
#ifndef COORDINATOR_GATEWAY_TOKEN_RULES_H_
#define COORDINATOR_GATEWAY_TOKEN_RULES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/sampling_params.h"
#include "common/text/grammar.h"
#include "common/text/tokenizer.h"
#include "coordinator/gateway/violations.h"
#include "proto/types.pb.h"

namespace quire {

// A rule for an output's text.
struct TextStructure {
  RuleKind kind = RuleKind::kJsonObject;
  std::string rule;
  std::string name;  // of its field in quire.v1.StructuredOutput
};

// What must be encoded or compiled before it can be sampled by.
struct TokenRules {
  std::vector<std::string> bad_words;
  std::optional<TextStructure> structure;
  int64_t truncate_prompt_tokens = 0;  // 0: as long as it is
};

// Reads and checks these fields into `sampling` and `rules`. Ids below
// `vocab_size` are valid; without a tokenizer no text can be spoken of.
void ReadTokenRules(const v1::SamplingParams& params, int32_t vocab_size,
                    bool has_tokenizer, SamplingParams* sampling,
                    TokenRules* rules, Violations* violations);

// The runs of tokens that spell each word at the beginning of a text and, where
// that is a token of its own, after a space: as vLLM does.
absl::StatusOr<std::vector<std::vector<TokenId>>> BadWordTokens(
    const Tokenizer& tokenizer, const std::vector<std::string>& words);

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_TOKEN_RULES_H_
