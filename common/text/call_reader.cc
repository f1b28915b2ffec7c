// SPDX-License-Identifier: Apache-2.0
#include "common/text/call_reader.h"

#include <nlohmann/json.hpp>

namespace quire {
namespace {

using Json = nlohmann::json;

// What the JSON string `text` says; empty if no UTF-8 does.
std::string Unquoted(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return json.is_string() ? json.get<std::string>() : "";
}

bool IsArgumentsKey(std::string_view key) {
  return key == "arguments" || key == "parameters";
}

}  // namespace

JsonScanner::State CallReader::Push(char c) {
  const size_t depth = scanner_.depth();
  const bool was_string = scanner_.is_in_string();
  const JsonScanner::State state = scanner_.Push(c);
  if (state == JsonScanner::State::kBad) return state;
  const bool is_string = scanner_.is_in_string();
  const size_t own_depth = is_bare_ ? 0 : 1;
  if (in_arguments_) {
    TakeArgumentByte(c, /*is_last=*/scanner_.depth() == own_depth);
  } else if (depth == own_depth && c == '{' && !was_string && !has_arguments_ &&
             (is_bare_ || IsArgumentsKey(key_))) {
    in_arguments_ = has_arguments_ = true;
    TakeArgumentByte(c, /*is_last=*/false);
  } else if (depth == 1 && (was_string || is_string)) {
    string_.push_back(c);
    if (!is_string) EndString();
  }
  is_call_ = is_call_ || (!name_.empty() && num_argument_marks_ >= 2);
  if (state == JsonScanner::State::kDone && !is_call_) {
    return JsonScanner::State::kBad;
  }
  return state;
}

void CallReader::TakeArgumentByte(char c, bool is_last) {
  arguments_.push_back(c);
  const bool is_space = c == ' ' || c == '\n' || c == '\r' || c == '\t';
  if (!is_space && num_argument_marks_ < 2) ++num_argument_marks_;
  if (is_last) in_arguments_ = false;
}

void CallReader::EndString() {
  const std::string text = Unquoted(std::exchange(string_, {}));
  if (scanner_.is_after_key()) {
    key_ = text;
  } else if (key_ == "name") {
    if (name_.empty()) name_ = text;
  } else if (key_ == "id") {
    if (id_.empty()) id_ = text;
  } else if (IsArgumentsKey(key_) && !has_arguments_ &&
             Json::parse(text, nullptr, false).is_object()) {
    has_arguments_ = true;
    num_argument_marks_ = 2;
    arguments_ = text;
  }
}

}  // namespace quire
