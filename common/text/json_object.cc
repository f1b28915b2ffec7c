// SPDX-License-Identifier: Apache-2.0
#include "common/text/json_object.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace quire {
namespace {

// Code that walks a value recurses; a deep one must not end the process.
constexpr int kMaxDepth = 64;

int Depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

}  // namespace

absl::StatusOr<OrderedJson> ParseJsonValue(std::string_view what,
                                           std::string_view text) {
  const absl::string_view name(what.data(), what.size());
  if (Depth(text) > kMaxDepth) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is nested deeper than ", kMaxDepth));
  }
  OrderedJson value =
      OrderedJson::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not JSON"));
  }
  return value;
}

absl::StatusOr<OrderedJson> ParseJsonObject(std::string_view what,
                                            std::string_view text) {
  if (text.empty()) return OrderedJson::object();
  absl::StatusOr<OrderedJson> value = ParseJsonValue(what, text);
  const bool is_other =
      value.ok() ? !value->is_object() : Depth(text) <= kMaxDepth;
  if (is_other) {
    return absl::InvalidArgumentError(absl::StrCat(
        absl::string_view(what.data(), what.size()), " is not a JSON object"));
  }
  return value;
}

std::string DumpJson(const OrderedJson& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/false,
                    OrderedJson::error_handler_t::replace);
}

}  // namespace quire
