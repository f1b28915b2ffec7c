// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/text/ffi/quire_text.h"
#include "common/text/ffi_call.h"
#include "common/text/json_object.h"
#include "common/text/text_file.h"
#include "common/text/utf8.h"

namespace quire {
namespace {

constexpr size_t kMaxConfigBytes = 16u << 20;
constexpr size_t kMaxTemplateBytes = 1u << 20;

absl::StatusOr<OrderedJson> MessageJson(size_t index,
                                        const ChatMessage& message) {
  const std::string where = absl::StrCat("messages[", index, "]");
  if (!IsValidUtf8(message.role) || !IsValidUtf8(message.content)) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": the role or content is not UTF-8"));
  }
  OrderedJson json = OrderedJson::object();
  json["role"] = message.role;
  if (message.content_json.empty()) {
    json["content"] = message.content;
  } else {
    QUIRE_ASSIGN_OR_RETURN(
        json["content"],
        ParseJsonValue(absl::StrCat(where, ".content"), message.content_json));
  }
  QUIRE_ASSIGN_OR_RETURN(
      const OrderedJson extra,
      ParseJsonObject(absl::StrCat(where, ".extra"), message.extra_json));
  for (const auto& [key, value] : extra.items()) {
    if (key == "role" || key == "content") {
      return absl::InvalidArgumentError(
          absl::StrCat(where, ".extra may not set \"", key, "\""));
    }
    json[key] = value;
  }
  return json;
}

// Stands where a message that is to be continued ends, as in transformers. The
// blank shows whether the template trims what it prints.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return "";
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

// Puts the tag behind the text of `message` and returns the text without it;
// none if there is no text to continue.
std::optional<std::string> TagEnd(OrderedJson* message) {
  OrderedJson* text = &(*message)["content"];
  if (text->is_array()) {
    OrderedJson* last = nullptr;
    for (OrderedJson& part : *text) {
      if (part.is_object() && part.contains("text")) last = &part["text"];
    }
    if (last == nullptr) return std::nullopt;
    text = last;
  }
  if (!text->is_string()) return std::nullopt;
  const std::string before = text->get<std::string>();
  *text = absl::StrCat(before, kContinueTag.data());
  return before;
}

// Cuts `text` where the message that ends with the tag, `last`, ends.
absl::StatusOr<std::string> CutAtTag(std::string text, std::string_view last) {
  const size_t at = text.rfind(Trim(kContinueTag));
  if (at == std::string::npos || text.find(Trim(last)) == std::string::npos) {
    return absl::InvalidArgumentError(
        "continue_final_message: the chat template does not show the last "
        "message as it is; leave it out, or end with a message of the "
        "assistant's");
  }
  const bool is_trimmed =
      std::string_view(text).substr(at, kContinueTag.size()) != kContinueTag;
  text.resize(at);
  if (is_trimmed) {
    text.resize(text.find_last_not_of(" \t\n\v\f\r") + 1);
  }
  return text;
}

// For logs and terminals, where an error is one line.
absl::Status InOneLine(const absl::Status& status) {
  std::string message(status.message());
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return absl::Status(status.code(), message);
}

// The variables of a rendering; `last` becomes the text that the last message
// is to be continued from.
absl::StatusOr<std::string> Context(absl::Span<const ChatMessage> messages,
                                    const ChatRenderOptions& options,
                                    const SpecialTokenNames& special_tokens,
                                    std::string* last) {
  OrderedJson context = OrderedJson::object();
  for (const auto& [role, token] : special_tokens) context[role] = token;
  OrderedJson& list = context["messages"] = OrderedJson::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    QUIRE_ASSIGN_OR_RETURN(OrderedJson message, MessageJson(i, messages[i]));
    list.push_back(std::move(message));
  }
  if (options.continue_final_message) {
    std::optional<std::string> text;
    if (!list.empty()) text = TagEnd(&list.back());
    if (!text.has_value()) {
      return absl::InvalidArgumentError(
          "continue_final_message: the last message has no text to continue");
    }
    *last = *std::move(text);
  }
  context["add_generation_prompt"] = options.add_generation_prompt;
  QUIRE_ASSIGN_OR_RETURN(
      const OrderedJson variables,
      ParseJsonObject("chat template variables", options.variables_json));
  for (const auto& [key, value] : variables.items()) {
    if (context.contains(key)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "chat template variable \"", key, "\" may not be set: remove it"));
    }
    context[key] = value;
  }
  // Templates test these with "is not none" as often as with "is defined".
  for (const char* key : {"tools", "documents"}) {
    if (!context.contains(key)) context[key] = nullptr;
  }
  return DumpJson(context);
}

// The template called `wanted` inside a tokenizer_config.json.
absl::StatusOr<std::string> TemplateOf(const std::string& path,
                                       const OrderedJson& config,
                                       std::string_view wanted) {
  const bool is_default = wanted == "default";
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null() || (it->is_string() && !is_default)) {
    return absl::NotFoundError(absl::StrCat(
        path,
        " has no \"chat_template\" and there is no chat_template.jinja "
        "beside it: send plain text, or add one of the two"));
  }
  if (it->is_string()) return it->get<std::string>();
  const absl::Status bad = absl::InvalidArgumentError(
      absl::StrCat(path,
                   ": \"chat_template\" is neither a string nor a list with "
                   "{\"name\": \"default\", \"template\": ...}"));
  if (!it->is_array()) return bad;
  for (const OrderedJson& entry : *it) {
    if (!entry.is_object() || !entry.contains("name") ||
        !entry.contains("template")) {
      return bad;
    }
    if (entry["name"] == std::string(wanted) && entry["template"].is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  if (is_default) return bad;
  return absl::NotFoundError(absl::StrCat(path, " has no such chat template"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromTokenizerConfig(
    const std::string& config_path, std::string_view name) {
  absl::StatusOr<std::string> config =
      ReadTextFile(config_path, kMaxConfigBytes);
  const std::string folder = config_path.substr(0, config_path.rfind('/') + 1);
  std::string path = absl::StrCat(folder, "chat_template.jinja");
  absl::StatusOr<std::string> source = ReadTextFile(path, kMaxTemplateBytes);
  // A file of its own needs no other.
  if (absl::IsNotFound(config.status()) && source.ok()) config = "{}";
  QUIRE_RETURN_IF_ERROR(config.status());
  QUIRE_ASSIGN_OR_RETURN(SpecialTokenNames names,
                         ParseSpecialTokenNames(*config));
  if (absl::IsNotFound(source.status()) || name != "default") {
    path = config_path;
    QUIRE_ASSIGN_OR_RETURN(const OrderedJson json,
                           ParseJsonObject(path, *config));
    source = TemplateOf(config_path, json, name);
  }
  QUIRE_RETURN_IF_ERROR(source.status());
  absl::StatusOr<std::unique_ptr<ChatTemplate>> result =
      FromString(*source, std::move(names));
  if (!result.ok()) {
    return absl::Status(result.status().code(),
                        absl::StrCat(path, ": ", result.status().message()));
  }
  return result;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromFile(
    const std::string& path, SpecialTokenNames special_tokens) {
  QUIRE_ASSIGN_OR_RETURN(const std::string source,
                         ReadTextFile(path, kMaxTemplateBytes));
  auto result = FromString(source, std::move(special_tokens));
  if (result.ok()) return result;
  return absl::Status(result.status().code(),
                      absl::StrCat(path, ": ", result.status().message()));
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromString(
    std::string_view source, SpecialTokenNames special_tokens) {
  QtTemplate* handle = nullptr;
  FfiBuffer error;
  const int32_t code = qt_template_compile(FfiBytes(source), source.size(),
                                           kFuel, &handle, error.out());
  QUIRE_RETURN_IF_ERROR(InOneLine(FfiStatus(code, error)));
  return std::unique_ptr<ChatTemplate>(
      new ChatTemplate(handle, source, std::move(special_tokens)));
}

ChatTemplate::ChatTemplate(QtTemplate* handle, std::string_view source,
                           SpecialTokenNames special_tokens)
    : handle_(handle),
      source_(source),
      special_tokens_(std::move(special_tokens)),
      reads_parts_(ProbeParts()) {}

ChatTemplate::~ChatTemplate() { qt_template_free(handle_); }

bool ChatTemplate::ProbeParts() const {
  constexpr std::string_view kProbe = "QUIRE_PROBE";
  ChatMessage probe{"user", "", ""};
  probe.content_json =
      absl::StrCat(R"([{"type": "text", "text": ")", kProbe.data(), "\"}]");
  const absl::StatusOr<std::string> text = Render({probe});
  // A template that takes content for text prints the list, or fails.
  return text.ok() && text->find(kProbe) != std::string::npos &&
         text->find("'type'") == std::string::npos &&
         text->find("\"type\"") == std::string::npos;
}

absl::StatusOr<std::string> ChatTemplate::Render(
    absl::Span<const ChatMessage> messages,
    const ChatRenderOptions& options) const {
  std::string last;
  QUIRE_ASSIGN_OR_RETURN(const std::string context,
                         Context(messages, options, special_tokens_, &last));
  QUIRE_ASSIGN_OR_RETURN(std::string text, RenderContext(context, options));
  if (!options.continue_final_message) return text;
  return CutAtTag(std::move(text), last);
}

absl::StatusOr<std::string> ChatTemplate::RenderContext(
    const std::string& context, const ChatRenderOptions& options) const {
  FfiBuffer text;
  FfiBuffer error;
  const int32_t code =
      qt_template_render(handle_, FfiBytes(context), context.size(),
                         absl::ToUnixSeconds(options.now),
                         options.max_output_bytes, text.out(), error.out());
  QUIRE_RETURN_IF_ERROR(InOneLine(FfiStatus(code, error)));
  return std::string(text.view());
}

}  // namespace quire
