// SPDX-License-Identifier: Apache-2.0
#include "common/text/chat_template.h"

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
  json["content"] = message.content;
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

// The variables of a rendering, in JSON.
absl::StatusOr<std::string> Context(absl::Span<const ChatMessage> messages,
                                    const ChatRenderOptions& options,
                                    const SpecialTokenNames& special_tokens) {
  OrderedJson context = OrderedJson::object();
  for (const auto& [role, token] : special_tokens) context[role] = token;
  OrderedJson& list = context["messages"] = OrderedJson::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    QUIRE_ASSIGN_OR_RETURN(OrderedJson message, MessageJson(i, messages[i]));
    list.push_back(std::move(message));
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
  return context.dump(-1, ' ', /*ensure_ascii=*/false,
                      OrderedJson::error_handler_t::replace);
}

// The template inside a tokenizer_config.json.
absl::StatusOr<std::string> TemplateOf(const std::string& path,
                                       const OrderedJson& config) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) {
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
    if (entry["name"] == "default" && entry["template"].is_string()) {
      return entry["template"].get<std::string>();
    }
  }
  return bad;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromTokenizerConfig(
    const std::string& config_path) {
  QUIRE_ASSIGN_OR_RETURN(const std::string text,
                         ReadTextFile(config_path, kMaxConfigBytes));
  QUIRE_ASSIGN_OR_RETURN(SpecialTokenNames names, ParseSpecialTokenNames(text));
  const size_t slash = config_path.rfind('/');
  const std::string folder =
      slash == std::string::npos ? "" : config_path.substr(0, slash + 1);
  std::string name = absl::StrCat(folder, "chat_template.jinja");
  absl::StatusOr<std::string> source = ReadTextFile(name, kMaxTemplateBytes);
  if (absl::IsNotFound(source.status())) {
    name = config_path;
    QUIRE_ASSIGN_OR_RETURN(const OrderedJson config,
                           ParseJsonObject(name, text));
    source = TemplateOf(config_path, config);
  }
  QUIRE_RETURN_IF_ERROR(source.status());
  absl::StatusOr<std::unique_ptr<ChatTemplate>> result =
      FromString(*source, std::move(names));
  if (!result.ok()) {
    return absl::Status(result.status().code(),
                        absl::StrCat(name, ": ", result.status().message()));
  }
  return result;
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::FromString(
    std::string_view source, SpecialTokenNames special_tokens) {
  QtTemplate* handle = nullptr;
  FfiBuffer error;
  const int32_t code = qt_template_compile(FfiBytes(source), source.size(),
                                           kFuel, &handle, error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::unique_ptr<ChatTemplate>(
      new ChatTemplate(handle, std::move(special_tokens)));
}

ChatTemplate::ChatTemplate(QtTemplate* handle, SpecialTokenNames special_tokens)
    : handle_(handle), special_tokens_(std::move(special_tokens)) {}

ChatTemplate::~ChatTemplate() { qt_template_free(handle_); }

absl::StatusOr<std::string> ChatTemplate::Render(
    absl::Span<const ChatMessage> messages,
    const ChatRenderOptions& options) const {
  QUIRE_ASSIGN_OR_RETURN(const std::string context,
                         Context(messages, options, special_tokens_));
  FfiBuffer text;
  FfiBuffer error;
  const int32_t code =
      qt_template_render(handle_, FfiBytes(context), context.size(),
                         absl::ToUnixSeconds(options.now),
                         options.max_output_bytes, text.out(), error.out());
  QUIRE_RETURN_IF_ERROR(FfiStatus(code, error));
  return std::string(text.view());
}

}  // namespace quire
