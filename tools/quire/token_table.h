// SPDX-License-Identifier: Apache-2.0
//
// Tokens as people like to see them.
#ifndef TOOLS_QUIRE_TOKEN_TABLE_H_
#define TOOLS_QUIRE_TOKEN_TABLE_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/text/tokenizer.h"
#include "tools/cli/colour.h"

namespace quire {

// The text with each token on a shade of its own (without colours: with bars
// between them), a table of ids and spellings, and counts.
absl::StatusOr<std::string> TokenTable(const Tokenizer& tokenizer,
                                       absl::Span<const TokenId> tokens,
                                       const Painter& painter);

// "12 tokens, 40 characters, 42 bytes, 3.33 characters per token"
std::string TokenCounts(size_t num_tokens, const std::string& text);

}  // namespace quire

#endif  // TOOLS_QUIRE_TOKEN_TABLE_H_
