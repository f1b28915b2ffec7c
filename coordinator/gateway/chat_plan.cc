// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/chat_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/wire/error_details.h"
#include "coordinator/gateway/violations.h"

namespace quire {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxMessages = 4096;
constexpr int kMaxTools = 128;
constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxRoleBytes = 64;
// A template repeats and frames what it is given; one that writes much more
// than any window holds is at fault.
constexpr int64_t kMaxGrowth = 4;

bool IsToolName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '_' || c == '-';
         });
}

// An object, or nothing and a violation. Depth is checked where it is rendered.
Json ReadObject(const std::string& field, const std::string& text,
                Violations* violations) {
  if (text.empty()) return Json::object();
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) {
    violations->Add(field, absl::StrCat(field, " is not a JSON object"));
    return Json::object();
  }
  return value;
}

std::string Dump(const Json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false,
                    Json::error_handler_t::replace);
}

Json ReadToolCall(const std::string& field, const v1::ToolCall& call,
                  Violations* violations) {
  if (call.name().empty()) {
    violations->Add(field + ".name", field + ".name is empty");
  }
  Json arguments =
      ReadObject(field + ".arguments_json", call.arguments_json(), violations);
  Json json = Json::object();
  if (!call.id().empty()) json["id"] = call.id();
  json["type"] = "function";
  json["function"] = {{"name", call.name()}, {"arguments", arguments}};
  return json;
}

std::string JoinParts(const v1::ChatMessage& message) {
  std::string text;
  for (const v1::ContentPart& part : message.parts()) {
    absl::StrAppend(&text, text.empty() ? "" : "\n", part.text());
  }
  return text;
}

void ReadContent(const std::string& field, const v1::ChatMessage& message,
                 bool reads_parts, ChatMessage* result,
                 Violations* violations) {
  if (message.has_content() && message.parts_size() > 0) {
    violations->Add(field + ".parts",
                    absl::StrCat(field, " has content and parts; set one"));
  }
  Json parts = Json::array();
  for (int i = 0; i < message.parts_size(); ++i) {
    const v1::ContentPart& part = message.parts(i);
    if (!part.type().empty() && part.type() != "text") {
      violations->Add(absl::StrCat(field, ".parts[", i, "].type"),
                      absl::StrCat(field, ".parts[", i, "] is of type \"",
                                   part.type().substr(0, kMaxNameBytes),
                                   "\"; this model reads text alone"));
    }
    parts.push_back({{"type", "text"}, {"text", part.text()}});
  }
  if (message.has_content()) {
    result->content = message.content();
  } else if (parts.empty()) {
    result->content_json = "null";
  } else if (reads_parts) {
    result->content_json = Dump(parts);
  } else {
    result->content = JoinParts(message);
  }
}

ChatMessage ReadMessage(int index, const v1::ChatMessage& message,
                        bool reads_parts, Violations* violations) {
  const std::string field = absl::StrCat("messages[", index, "]");
  ChatMessage result;
  result.role = message.role();
  if (message.role().empty() || message.role().size() > kMaxRoleBytes) {
    violations->Add(field + ".role",
                    absl::StrCat(field, ".role has ", message.role().size(),
                                 " bytes; it must have 1 to ", kMaxRoleBytes,
                                 ", such as \"user\""));
  }
  ReadContent(field, message, reads_parts, &result, violations);
  Json extra =
      ReadObject(field + ".extra_json", message.extra_json(), violations);
  for (const char* key :
       {"role", "content", "name", "tool_calls", "tool_call_id"}) {
    if (!extra.contains(key)) continue;
    violations->Add(field + ".extra_json",
                    absl::StrCat(field, ".extra_json sets \"", key,
                                 "\", which has a field of its own"));
    extra.erase(key);
  }
  if (!message.name().empty()) extra["name"] = message.name();
  for (int i = 0; i < message.tool_calls_size(); ++i) {
    extra["tool_calls"].push_back(
        ReadToolCall(absl::StrCat(field, ".tool_calls[", i, "]"),
                     message.tool_calls(i), violations));
  }
  if (!message.tool_call_id().empty()) {
    extra["tool_call_id"] = message.tool_call_id();
  }
  if (!extra.empty()) result.extra_json = Dump(extra);
  return result;
}

Json ReadTools(const v1::ChatRequest& request, Violations* violations) {
  Json tools = Json::array();
  std::set<std::string> names;
  if (request.tools_size() > kMaxTools) {
    violations->Add("tools", absl::StrCat("tools has ", request.tools_size(),
                                          "; it may have at most ", kMaxTools));
    return tools;
  }
  for (int i = 0; i < request.tools_size(); ++i) {
    const v1::Tool& tool = request.tools(i);
    const v1::Function& function = tool.function();
    const std::string field = absl::StrCat("tools[", i, "]");
    if (!tool.type().empty() && tool.type() != "function") {
      violations->Add(field + ".type", absl::StrCat(field,
                                                    ".type may only be "
                                                    "\"function\""));
    }
    if (!IsToolName(function.name())) {
      violations->Add(field + ".function.name",
                      absl::StrCat(field,
                                   ".function.name must be 1 to 64 letters, "
                                   "digits, dashes and underscores"));
    } else if (!names.insert(function.name()).second) {
      violations->Add(field + ".function.name",
                      absl::StrCat("two tools are called \"", function.name(),
                                   "\"; rename one"));
    }
    Json schema = ReadObject(field + ".function.parameters_json",
                             function.parameters_json(), violations);
    if (schema.empty()) {
      schema = {{"type", "object"}, {"properties", Json::object()}};
    }
    // In the order in which transformers writes them.
    Json json = Json::object();
    json["name"] = function.name();
    if (!function.description().empty()) {
      json["description"] = function.description();
    }
    json["parameters"] = std::move(schema);
    tools.push_back({{"type", "function"}, {"function", std::move(json)}});
  }
  return tools;
}

// Tools, documents and the client's own variables, as one JSON object.
std::string ReadVariables(const v1::ChatRequest& request, const Json& tools,
                          Violations* violations) {
  Json variables = ReadObject("template_kwargs_json",
                              request.template_kwargs_json(), violations);
  for (const char* key :
       {"messages", "tools", "documents", "add_generation_prompt"}) {
    if (!variables.contains(key)) continue;
    violations->Add("template_kwargs_json",
                    absl::StrCat("template_kwargs_json sets \"", key,
                                 "\", which has a field of its own"));
    variables.erase(key);
  }
  if (!tools.empty()) variables["tools"] = tools;
  for (int i = 0; i < request.documents_json_size(); ++i) {
    const std::string field = absl::StrCat("documents_json[", i, "]");
    if (request.documents_json(i).empty()) {
      violations->Add(field, field + " is empty");
    }
    variables["documents"].push_back(
        ReadObject(field, request.documents_json(i), violations));
  }
  return variables.empty() ? "" : Dump(variables);
}

void ReadEnd(const v1::ChatRequest& request, ChatRenderOptions* render,
             Violations* violations) {
  render->continue_final_message =
      request.has_continue_final_message() && request.continue_final_message();
  render->add_generation_prompt = request.has_add_generation_prompt()
                                      ? request.add_generation_prompt()
                                      : !render->continue_final_message;
  if (render->continue_final_message && render->add_generation_prompt) {
    violations->Add("continue_final_message",
                    "continue_final_message and add_generation_prompt exclude "
                    "each other; set one");
  }
}

// What comes of a request's tools.
enum class Calls {
  kNone,    // the answer is text
  kLooked,  // the model may call
  kForced,  // the answer is one of some calls
};

Calls ReadToolChoice(const v1::ChatRequest& request, Json tools, Json* forced,
                     Violations* violations) {
  const v1::ToolChoice& choice = request.tool_choice();
  const bool is_named = choice.choice_case() == v1::ToolChoice::kName;
  if (!is_named && choice.mode() == v1::ToolChoice::MODE_NONE) {
    return Calls::kNone;
  }
  if (!is_named && choice.mode() != v1::ToolChoice::MODE_REQUIRED) {
    return request.tools_size() > 0 ? Calls::kLooked : Calls::kNone;
  }
  if (request.tools_size() == 0) {
    violations->Add("tool_choice", "tool_choice needs tools; add them");
  }
  if (request.sampling().has_structured_output()) {
    violations->Add("tool_choice",
                    "tool_choice and sampling.structured_output both say what "
                    "the answer must be; set one");
  }
  for (Json& tool : tools) {
    if (is_named && tool["function"]["name"] != choice.name()) continue;
    forced->push_back(std::move(tool["function"]));
  }
  if (is_named && forced->empty() && request.tools_size() > 0) {
    violations->Add("tool_choice",
                    absl::StrCat("tool_choice names \"",
                                 choice.name().substr(0, kMaxNameBytes),
                                 "\", which is none of the tools"));
  }
  return Calls::kForced;
}

// References of a schema that moves to `place` of another.
void MoveReferences(const std::string& place, Json* schema) {
  if (schema->is_array()) {
    for (Json& item : *schema) MoveReferences(place, &item);
  } else if (schema->is_object()) {
    for (auto& [key, value] : schema->items()) {
      if (key == "$ref" && value.is_string() &&
          value.get_ref<const std::string&>().rfind('#', 0) == 0) {
        value = absl::StrCat("#", place, value.get<std::string>().substr(1));
      } else {
        MoveReferences(place, &value);
      }
    }
  }
}

// The schema of one call of one of `functions`.
std::string CallSchema(Json functions) {
  Json calls = Json::array();
  for (Json& function : functions) {
    const std::string place =
        functions.size() == 1
            ? std::string("/properties/arguments")
            : absl::StrCat("/anyOf/", calls.size(), "/properties/arguments");
    Json arguments = std::move(function["parameters"]);
    MoveReferences(place, &arguments);
    Json properties = Json::object();
    properties["name"] = {{"const", function["name"]}};
    properties["arguments"] = std::move(arguments);
    Json call = Json::object();
    call["type"] = "object";
    call["properties"] = std::move(properties);
    call["required"] = {"name", "arguments"};
    call["additionalProperties"] = false;
    calls.push_back(std::move(call));
  }
  if (calls.size() == 1) return Dump(calls[0]);
  Json any = Json::object();
  any["anyOf"] = std::move(calls);
  return Dump(any);
}

// A chat's prompt is the template's, and not the client's to see.
void RefusePromptOutput(const v1::SamplingParams& sampling,
                        Violations* violations) {
  for (const auto& [is_set, name] :
       {std::pair{sampling.echo(), "echo"},
        std::pair{sampling.has_prompt_logprobs(), "prompt_logprobs"}}) {
    if (!is_set) continue;
    violations->Add(absl::StrCat("sampling.", name),
                    absl::StrCat(name,
                                 " has no meaning for a chat, whose prompt "
                                 "is not returned; use Generate"));
  }
}

void FillGenerate(const v1::ChatRequest& request, v1::GenerateRequest* out) {
  out->set_request_id(request.request_id());
  out->set_model(request.model());
  out->set_text("");
  *out->mutable_sampling() = request.sampling();
  if (request.has_priority()) out->set_priority(request.priority());
  out->set_tenant(request.tenant());
  if (request.has_use_prefix_cache()) {
    out->set_use_prefix_cache(request.use_prefix_cache());
  }
  out->set_cache_salt(request.cache_salt());
}

size_t NumBytes(const v1::ChatRequest& request) {
  size_t bytes =
      request.chat_template().size() + request.template_kwargs_json().size();
  for (const auto& message : request.messages())
    bytes += message.ByteSizeLong();
  for (const auto& tool : request.tools()) bytes += tool.ByteSizeLong();
  for (const auto& text : request.documents_json()) bytes += text.size();
  return bytes;
}

absl::Status CheckSize(size_t num_bytes, const ModelLimits& limits) {
  if (static_cast<int64_t>(num_bytes) <= limits.max_text_bytes) {
    return absl::OkStatus();
  }
  return InvalidFields(
      "INVALID_PARAMETER",
      {{"messages",
        limits.max_text_bytes == 0
            ? std::string("this server runs without a tokenizer; use Generate "
                          "with token_ids")
            : absl::StrCat("the conversation has ", num_bytes,
                           " bytes; it may have at most ",
                           limits.max_text_bytes)}});
}

absl::StatusOr<std::shared_ptr<const ChatTemplate>> ChooseTemplate(
    const v1::ChatRequest& request, const ChatFacts& facts) {
  if (!request.chat_template().empty()) {
    if (!facts.trust_request_chat_template) {
      return InvalidFields(
          "INVALID_PARAMETER",
          {{"chat_template",
            "this server takes no chat_template from requests; leave it out, "
            "or start the server with --trust_request_chat_template"}});
    }
    QUIRE_ASSIGN_OR_RETURN(auto own,
                           ChatTemplate::FromString(request.chat_template(),
                                                    facts.special_tokens));
    return std::shared_ptr<const ChatTemplate>(std::move(own));
  }
  if (request.tools_size() > 0 && facts.tool_template != nullptr) {
    return facts.tool_template;
  }
  if (facts.chat_template != nullptr) return facts.chat_template;
  absl::Status status = absl::FailedPreconditionError(
      facts.no_template.empty() ? "the model has no chat template; use Generate"
                                : facts.no_template);
  ErrorDetails details;
  details.reason = "NO_CHAT_TEMPLATE";
  SetErrorDetails(details, &status);
  return status;
}

}  // namespace

absl::StatusOr<ChatPlan> PlanChat(const v1::ChatRequest& request,
                                  const ChatFacts& facts,
                                  const ModelLimits& limits, absl::Time now) {
  QUIRE_RETURN_IF_ERROR(CheckModelName(request.model(), limits));
  ChatPlan plan;
  plan.num_bytes = NumBytes(request);
  QUIRE_RETURN_IF_ERROR(CheckSize(plan.num_bytes, limits));
  QUIRE_ASSIGN_OR_RETURN(plan.chat_template, ChooseTemplate(request, facts));
  Violations violations;
  if (request.messages_size() < 1 || request.messages_size() > kMaxMessages) {
    violations.Add("messages",
                   absl::StrCat("messages has ", request.messages_size(),
                                "; it must have 1 to ", kMaxMessages));
  } else {
    for (int i = 0; i < request.messages_size(); ++i) {
      plan.messages.push_back(ReadMessage(i, request.messages(i),
                                          plan.chat_template->reads_parts(),
                                          &violations));
    }
  }
  RefusePromptOutput(request.sampling(), &violations);
  Json tools = ReadTools(request, &violations);
  plan.render.variables_json = ReadVariables(request, tools, &violations);
  ReadEnd(request, &plan.render, &violations);
  Json forced = Json::array();
  const Calls calls =
      ReadToolChoice(request, std::move(tools), &forced, &violations);
  QUIRE_RETURN_IF_ERROR(violations.ToStatus());
  plan.render.now = now;
  plan.render.max_output_bytes =
      static_cast<size_t>(kMaxGrowth * limits.max_text_bytes);
  FillGenerate(request, &plan.generate);
  if (calls == Calls::kLooked) {
    plan.tool_calls = facts.tool_call_format.value_or(
        DetectToolCallFormat(plan.chat_template->source()));
  } else if (calls == Calls::kForced) {
    // The bare object, whatever marks the model would put around it.
    plan.tool_calls = ToolCallFormat::kLlama3;
    plan.generate.mutable_sampling()
        ->mutable_structured_output()
        ->set_json_schema(CallSchema(std::move(forced)));
  }
  return plan;
}

}  // namespace quire
