// SPDX-License-Identifier: Apache-2.0
#include "common/json_fields.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace quire {
namespace {

using Json = nlohmann::json;

// The value as JSON, cut to what fits an error message.
std::string Shown(const Json& value) {
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true,
                                Json::error_handler_t::replace);
  if (text.size() > 80) text = absl::StrCat(text.substr(0, 77), "...");
  return text;
}

// Reads JSON for the place of its first error alone.
class ErrorFinder final : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    position_ = position;
    return false;
  }

  size_t position() const { return position_; }

 private:
  size_t position_ = 0;  // bytes read, the wrong one included
};

// "line 3", or of a single line "byte 7".
std::string PlaceOfError(absl::string_view text) {
  ErrorFinder finder;
  Json::sax_parse(text.begin(), text.end(), &finder);
  const size_t position = std::min(finder.position(), text.size());
  if (!absl::StrContains(text, '\n')) return absl::StrCat("byte ", position);
  const absl::string_view before =
      text.substr(0, position == 0 ? 0 : position - 1);
  return absl::StrCat("line ",
                      1 + std::count(before.begin(), before.end(), '\n'));
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(absl::string_view text,
                                     absl::string_view file) {
  Json json = Json::parse(text.begin(), text.end(), /*cb=*/nullptr,
                          /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": ",
        json.is_discarded() ? absl::StrCat("not JSON at ", PlaceOfError(text))
                            : Shown(json),
        ", expected one JSON object"));
  }
  return json;
}

const Json* JsonFields::Find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::IsNull(const char* name) const {
  const auto it = object_.find(name);
  return it != object_.end() && it->is_null();
}

absl::Status JsonFields::Wrong(const char* name,
                               absl::string_view expected) const {
  const Json* value = Find(name);
  return absl::InvalidArgumentError(absl::StrCat(
      where_, ": \"", name, "\" is ",
      value == nullptr ? "missing" : Shown(*value), ", expected ", expected));
}

absl::Status JsonFields::Unsupported(const char* name,
                                     absl::string_view expected) const {
  return absl::UnimplementedError(Wrong(name, expected).message());
}

absl::StatusOr<int32_t> JsonFields::Int(const char* name, int64_t low,
                                        int64_t high,
                                        std::optional<int64_t> fallback) const {
  const Json* value = Find(name);
  if (value == nullptr && fallback.has_value()) {
    return static_cast<int32_t>(*fallback);
  }
  const bool fits = value != nullptr && value->is_number_integer() &&
                    (!value->is_number_unsigned() ||
                     value->get<uint64_t>() <= static_cast<uint64_t>(high));
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high) {
    return Wrong(name, absl::StrCat("an integer in [", low, ", ", high, "]"));
  }
  return static_cast<int32_t>(value->get<int64_t>());
}

absl::StatusOr<double> JsonFields::Number(
    const char* name, double low, double high,
    std::optional<double> fallback) const {
  const Json* value = Find(name);
  if (value == nullptr && fallback.has_value()) return *fallback;
  const double number = value != nullptr && value->is_number()
                            ? value->get<double>()
                            : std::nan("");
  if (!std::isfinite(number) || number < low || number > high) {
    return Wrong(name, absl::StrCat("a number in [", low, ", ", high, "]"));
  }
  return number;
}

absl::StatusOr<bool> JsonFields::Bool(const char* name, bool fallback) const {
  const Json* value = Find(name);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return Wrong(name, "true or false");
  return value->get<bool>();
}

absl::StatusOr<std::string> JsonFields::String(
    const char* name, absl::string_view fallback) const {
  const Json* value = Find(name);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) return Wrong(name, "a string");
  return value->get<std::string>();
}

}  // namespace quire
