// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_prompt.h"

#include <string>
#include <string_view>
#include <utility>

#include "common/status_macros.h"
#include "common/text/json_object.h"

namespace quire {
namespace {

// Guards every string in `value`, keys included.
absl::StatusOr<OrderedJson> GuardStrings(const Tokenizer& tokenizer,
                                         const OrderedJson& value) {
  if (value.is_string()) {
    QUIRE_ASSIGN_OR_RETURN(
        std::string text,
        tokenizer.GuardUserText(value.get_ref<const std::string&>()));
    return OrderedJson(std::move(text));
  }
  if (!value.is_structured()) return value;
  OrderedJson guarded =
      value.is_array() ? OrderedJson::array() : OrderedJson::object();
  for (const auto& [key, item] : value.items()) {
    QUIRE_ASSIGN_OR_RETURN(OrderedJson part, GuardStrings(tokenizer, item));
    if (value.is_array()) {
      guarded.push_back(std::move(part));
      continue;
    }
    QUIRE_ASSIGN_OR_RETURN(const std::string name,
                           tokenizer.GuardUserText(key));
    guarded[name] = std::move(part);
  }
  return guarded;
}

// The same for the text of a JSON object, escapes in its strings included.
absl::StatusOr<std::string> GuardJson(const Tokenizer& tokenizer,
                                      std::string_view what,
                                      std::string_view text) {
  if (text.empty()) return std::string();
  QUIRE_ASSIGN_OR_RETURN(const OrderedJson value, ParseJsonObject(what, text));
  QUIRE_ASSIGN_OR_RETURN(const OrderedJson guarded,
                         GuardStrings(tokenizer, value));
  return DumpJson(guarded);
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> EncodeChat(
    const Tokenizer& tokenizer, const ChatTemplate& chat_template,
    absl::Span<const ChatMessage> messages, const ChatRenderOptions& options) {
  std::vector<ChatMessage> guarded;
  guarded.reserve(messages.size());
  for (const ChatMessage& message : messages) {
    ChatMessage copy;
    QUIRE_ASSIGN_OR_RETURN(copy.role, tokenizer.GuardUserText(message.role));
    QUIRE_ASSIGN_OR_RETURN(copy.content,
                           tokenizer.GuardUserText(message.content));
    QUIRE_ASSIGN_OR_RETURN(
        copy.extra_json,
        GuardJson(tokenizer, "a message's further fields", message.extra_json));
    if (!message.content_json.empty()) {
      QUIRE_ASSIGN_OR_RETURN(
          const OrderedJson content,
          ParseJsonValue("a message's content", message.content_json));
      QUIRE_ASSIGN_OR_RETURN(const OrderedJson parts,
                             GuardStrings(tokenizer, content));
      copy.content_json = DumpJson(parts);
    }
    guarded.push_back(std::move(copy));
  }
  ChatRenderOptions guarded_options = options;
  QUIRE_ASSIGN_OR_RETURN(
      guarded_options.variables_json,
      GuardJson(tokenizer, "chat template variables", options.variables_json));
  QUIRE_ASSIGN_OR_RETURN(const std::string text,
                         chat_template.Render(guarded, guarded_options));
  EncodeOptions encode;
  encode.special_tokens = SpecialTokens::kParseUnguarded;
  return tokenizer.Encode(text, encode);
}

}  // namespace quire
