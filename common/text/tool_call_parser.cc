// SPDX-License-Identifier: Apache-2.0
#include "common/text/tool_call_parser.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"

namespace quire {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kHermesEnd = "</tool_call>";
constexpr std::string_view kMistralArgs = "[ARGS]";
constexpr size_t kMaxNameBytes = 64;
constexpr std::string_view kSpace = " \n\r\t";

bool IsSpace(char c) { return kSpace.find(c) != std::string_view::npos; }

bool IsNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' ||
         c == '-' || c == '.';
}

std::string_view BeginMark(ToolCallFormat format) {
  switch (format) {
    case ToolCallFormat::kNone:
      return "";
    case ToolCallFormat::kHermes:
      return "<tool_call>";
    case ToolCallFormat::kLlama3:
      return "<|python_tag|>";
    case ToolCallFormat::kMistral:
      return "[TOOL_CALLS]";
  }
  return "";
}

// Reads one {"name", "arguments"}; `text` is its spelling.
bool ParseCall(std::string_view text, ParsedToolCall* call) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return false;
  const auto name = json.find("name");
  if (name == json.end() || !name->is_string()) return false;
  call->name = name->get<std::string>();
  if (call->name.empty()) return false;
  const auto id = json.find("id");
  if (id != json.end() && id->is_string()) call->id = id->get<std::string>();
  const char* key = json.contains("arguments") ? "arguments" : "parameters";
  const auto arguments = json.find(key);
  if (arguments == json.end()) return false;
  if (arguments->is_object()) {
    call->arguments_json = std::string(JsonScanner::Member(text, key));
    return !call->arguments_json.empty();
  }
  // Some models quote the object.
  if (!arguments->is_string()) return false;
  call->arguments_json = arguments->get<std::string>();
  return Json::parse(call->arguments_json, nullptr, false).is_object();
}

// The spellings of the objects in an array of them.
bool SplitArray(std::string_view array, std::vector<std::string_view>* items) {
  size_t at = 1;
  while (true) {
    at = array.find_first_not_of(" \n\r\t,", at);
    if (at == std::string_view::npos || array[at] == ']') return true;
    if (array[at] != '{') return false;
    const size_t begin = at;
    JsonScanner scanner;
    while (scanner.Push(array[at++]) != JsonScanner::State::kDone) {
    }
    items->push_back(array.substr(begin, at - begin));
  }
}

}  // namespace

absl::StatusOr<ToolCallFormat> ParseToolCallFormat(std::string_view name) {
  for (const ToolCallFormat format :
       {ToolCallFormat::kNone, ToolCallFormat::kHermes, ToolCallFormat::kLlama3,
        ToolCallFormat::kMistral}) {
    if (name == ToolCallFormatName(format)) return format;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(name),
                   "\" is none of none, hermes, llama3 and mistral"));
}

std::string_view ToolCallFormatName(ToolCallFormat format) {
  switch (format) {
    case ToolCallFormat::kNone:
      return "none";
    case ToolCallFormat::kHermes:
      return "hermes";
    case ToolCallFormat::kLlama3:
      return "llama3";
    case ToolCallFormat::kMistral:
      return "mistral";
  }
  return "none";
}

ToolCallFormat DetectToolCallFormat(std::string_view chat_template) {
  const auto has = [&](std::string_view text) {
    return chat_template.find(text) != std::string_view::npos;
  };
  if (has("[TOOL_CALLS]")) return ToolCallFormat::kMistral;
  if (has("<tool_call>")) return ToolCallFormat::kHermes;
  if (has("<|python_tag|>")) return ToolCallFormat::kLlama3;
  // Llama 3.2's small models call without the mark.
  if (has("<|start_header_id|>") && has("tools") && has("parameters")) {
    return ToolCallFormat::kLlama3;
  }
  return ToolCallFormat::kNone;
}

std::vector<std::string_view> ToolCallMarks(ToolCallFormat format) {
  switch (format) {
    case ToolCallFormat::kNone:
      return {};
    case ToolCallFormat::kHermes:
      return {BeginMark(format), kHermesEnd};
    case ToolCallFormat::kLlama3:
      return {BeginMark(format)};
    case ToolCallFormat::kMistral:
      return {BeginMark(format), kMistralArgs};
  }
  return {};
}

ToolCallOutput ToolCallParser::Append(std::string_view text) {
  ToolCallOutput output;
  if (format_ == ToolCallFormat::kNone) {
    output.text = std::string(text);
    return output;
  }
  for (const char c : text) Push(c, &output);
  return output;
}

ToolCallOutput ToolCallParser::Finish() {
  ToolCallOutput output;
  // Models often stop instead of writing the closing tag.
  if (state_ == State::kEndTag) TakeCalls(&output);
  const bool is_space = held_.find_first_not_of(kSpace) == std::string::npos;
  if (after_call_ && is_space) held_.clear();
  Release(&output);
  return output;
}

void ToolCallParser::Push(char c, ToolCallOutput* output) {
  bool belongs = true;
  switch (state_) {
    case State::kText:
      PushText(c, output);
      return;
    case State::kBody:
      belongs = PushBody(c, output);
      break;
    case State::kName:
      belongs = PushName(c);
      break;
    case State::kArgs:
      belongs = PushArgs(c);
      break;
    case State::kEndTag:
      belongs = PushEndTag(c, output);
      break;
  }
  if (belongs) return;
  Release(output);
  PushText(c, output);
}

void ToolCallParser::PushText(char c, ToolCallOutput* output) {
  const std::string_view mark = BeginMark(format_);
  if (c == mark[matched_]) {
    held_.push_back(c);
    if (++matched_ == mark.size()) BeginBody();
    return;
  }
  // No mark has its first byte twice: what matched so far was text.
  if (matched_ > 0) {
    Release(output);
    PushText(c, output);
    return;
  }
  const bool is_llama = format_ == ToolCallFormat::kLlama3;
  if (is_llama && c == '{' && (!wrote_text_ || after_call_)) {
    BeginBody();
    PushBody(c, output);
    return;
  }
  held_.push_back(c);
  if (IsSpace(c) || (is_llama && after_call_ && c == ';')) return;
  Release(output);
}

void ToolCallParser::BeginBody() {
  state_ = State::kBody;
  body_begin_ = held_.size();
  scanner_ = JsonScanner();
  name_.clear();
  matched_ = 0;
}

bool ToolCallParser::PushBody(char c, ToolCallOutput* output) {
  const bool is_mistral = format_ == ToolCallFormat::kMistral;
  if (held_.size() == body_begin_) {  // nothing but white space yet
    if (IsSpace(c)) {
      held_.push_back(c);
      ++body_begin_;
      return true;
    }
    if (is_mistral && name_.empty() && IsNameByte(c)) {
      state_ = State::kName;
      return PushName(c);
    }
    const char open = is_mistral && name_.empty() ? '[' : '{';
    if (c != open) return false;
  }
  const JsonScanner::State state = scanner_.Push(c);
  if (state == JsonScanner::State::kBad) return false;
  held_.push_back(c);
  if (state == JsonScanner::State::kMore) return true;
  body_end_ = held_.size();
  if (format_ == ToolCallFormat::kHermes) {
    state_ = State::kEndTag;
  } else {
    TakeCalls(output);
  }
  return true;
}

bool ToolCallParser::PushName(char c) {
  if (IsNameByte(c)) {
    if (name_.size() == kMaxNameBytes) return false;
    name_.push_back(c);
    held_.push_back(c);
    return true;
  }
  state_ = State::kArgs;
  return PushArgs(c);
}

bool ToolCallParser::PushArgs(char c) {
  if (c == kMistralArgs[matched_]) {
    held_.push_back(c);
    if (++matched_ < kMistralArgs.size()) return true;
  } else if (matched_ == 0 && (c == '{' || IsSpace(c))) {
    if (IsSpace(c)) {
      held_.push_back(c);
      return true;
    }
  } else {
    return false;
  }
  // The arguments begin behind [ARGS], or with this very byte.
  const std::string name = std::move(name_);
  BeginBody();
  name_ = name;
  return c != '{' || PushBody(c, nullptr);
}

bool ToolCallParser::PushEndTag(char c, ToolCallOutput* output) {
  if (matched_ == 0 && IsSpace(c)) {
    held_.push_back(c);
    return true;
  }
  if (c != kHermesEnd[matched_]) return false;
  held_.push_back(c);
  if (++matched_ == kHermesEnd.size()) TakeCalls(output);
  return true;
}

void ToolCallParser::Release(ToolCallOutput* output) {
  wrote_text_ |= held_.find_first_not_of(kSpace) != std::string::npos;
  if (!held_.empty()) after_call_ = false;
  output->text += held_;
  held_.clear();
  matched_ = 0;
  state_ = State::kText;
}

void ToolCallParser::TakeCalls(ToolCallOutput* output) {
  std::vector<ParsedToolCall> calls;
  if (!ParseBody(&calls)) {
    Release(output);
    return;
  }
  for (ParsedToolCall& call : calls) {
    call.index = num_calls_++;
    if (call.id.empty()) call.id = NewId(call.index);
    output->calls.push_back(std::move(call));
  }
  // With the white space that was held before it.
  held_.clear();
  matched_ = 0;
  state_ = State::kText;
  after_call_ = true;
}

std::string ToolCallParser::NewId(int32_t index) const {
  if (format_ != ToolCallFormat::kMistral) {
    return absl::StrCat("call_", absl::Hex(id_seed_, absl::kZeroPad16), "_",
                        index);
  }
  // Mistral's templates refuse ids of another shape when they come back.
  constexpr std::string_view kDigits =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string id;
  uint64_t bits = MixBits(id_seed_ ^ MixBits(static_cast<uint64_t>(index)));
  for (; id.size() < 9; bits /= kDigits.size()) {
    id.push_back(kDigits[bits % kDigits.size()]);
  }
  return id;
}

bool ToolCallParser::ParseBody(std::vector<ParsedToolCall>* calls) const {
  const std::string_view body =
      std::string_view(held_).substr(body_begin_, body_end_ - body_begin_);
  if (!name_.empty()) {
    if (Json::parse(body, nullptr, false).is_discarded()) return false;
    calls->push_back({0, "", name_, std::string(body)});
    return true;
  }
  std::vector<std::string_view> items = {body};
  if (body.front() == '[') {
    items.clear();
    if (!SplitArray(body, &items) || items.empty()) return false;
  }
  for (const std::string_view item : items) {
    ParsedToolCall call;
    if (!ParseCall(item, &call)) return false;
    calls->push_back(std::move(call));
  }
  return true;
}

}  // namespace quire
