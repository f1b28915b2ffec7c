// SPDX-License-Identifier: Apache-2.0
//
// A conversation to prompt tokens, in one step that clients cannot subvert.
#ifndef COMMON_TEXT_CHAT_PROMPT_H_
#define COMMON_TEXT_CHAT_PROMPT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "common/text/chat_template.h"
#include "common/text/tokenizer.h"

namespace quire {

// Renders `messages` and encodes the result. Control tokens come from the
// template alone: the same spelling inside a message, or inside
// options.variables_json, is ordinary text. Adds no special tokens of its own;
// the template writes BOS where the model wants it. Fails as
// ChatTemplate::Render and Tokenizer::Encode do.
absl::StatusOr<std::vector<TokenId>> EncodeChat(
    const Tokenizer& tokenizer, const ChatTemplate& chat_template,
    absl::Span<const ChatMessage> messages,
    const ChatRenderOptions& options = {});

}  // namespace quire

#endif  // COMMON_TEXT_CHAT_PROMPT_H_
