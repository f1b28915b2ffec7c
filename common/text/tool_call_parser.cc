// SPDX-License-Identifier: Apache-2.0
#include "common/text/tool_call_parser.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/text/json_scanner.h"

namespace quire {
namespace {

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
  // Models often stop instead of writing the closing tag or bracket.
  if (state_ == State::kEndTag ||
      (state_ == State::kBody && has_calls_ && !in_call_)) {
    EndCalls();
  }
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
      belongs = PushEndTag(c);
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
  reader_ = CallReader();
  name_.clear();
  items_ = Items::kNone;
  in_call_ = is_sent_ = has_calls_ = false;
  matched_ = 0;
}

bool ToolCallParser::PushBody(char c, ToolCallOutput* output) {
  if (in_call_) return PushCall(c, output);
  if (IsSpace(c)) {
    held_.push_back(c);
    return true;
  }
  if (items_ != Items::kNone) return PushItems(c, output);
  if (format_ == ToolCallFormat::kMistral && name_.empty()) {
    if (IsNameByte(c)) {
      state_ = State::kName;
      return PushName(c);
    }
    if (c != '[') return false;
    items_ = Items::kFirst;
    held_.push_back(c);
    return true;
  }
  if (c != '{') return false;
  if (!name_.empty()) reader_ = CallReader(name_);
  in_call_ = true;
  return PushCall(c, output);
}

bool ToolCallParser::PushItems(char c, ToolCallOutput* output) {
  if (c == '{' && items_ != Items::kSeparator) {
    reader_ = CallReader();
    in_call_ = true;
    is_sent_ = false;
    return PushCall(c, output);
  }
  if (items_ != Items::kSeparator || (c != ',' && c != ']')) return false;
  held_.push_back(c);
  items_ = Items::kNext;
  if (c == ']') EndCalls();
  return true;
}

bool ToolCallParser::PushCall(char c, ToolCallOutput* output) {
  const JsonScanner::State state = reader_.Push(c);
  if (state == JsonScanner::State::kBad) return false;
  if (reader_.is_call() && !is_sent_) {
    is_sent_ = has_calls_ = after_call_ = true;
    held_.clear();  // with the white space before it
    const int32_t index = num_calls_++;
    output->calls.push_back({index,
                             reader_.id().empty() ? NewId(index) : reader_.id(),
                             reader_.name(), ""});
  }
  if (!is_sent_) {
    held_.push_back(c);
  } else if (std::string arguments = reader_.TakeArguments();
             !arguments.empty()) {
    if (output->calls.empty() || output->calls.back().index + 1 != num_calls_) {
      output->calls.push_back({num_calls_ - 1, "", "", ""});
    }
    output->calls.back().arguments += arguments;
  }
  if (state == JsonScanner::State::kMore) return true;
  in_call_ = false;
  if (format_ == ToolCallFormat::kHermes) {
    state_ = State::kEndTag;
  } else if (items_ != Items::kNone) {
    items_ = Items::kSeparator;
  } else {
    EndCalls();
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
  // The arguments begin behind [ARGS], or with this very byte, with which no
  // call is known to be one.
  const std::string name = std::move(name_);
  BeginBody();
  name_ = name;
  return c != '{' || PushBody(c, nullptr);
}

bool ToolCallParser::PushEndTag(char c) {
  if (matched_ == 0 && IsSpace(c)) {
    held_.push_back(c);
    return true;
  }
  if (c != kHermesEnd[matched_]) return false;
  held_.push_back(c);
  if (++matched_ == kHermesEnd.size()) EndCalls();
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

void ToolCallParser::EndCalls() {
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

}  // namespace quire
