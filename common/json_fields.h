// SPDX-License-Identifier: Apache-2.0
//
// Reading the fields of a JSON object that someone else wrote, with errors
// that say which file, which field, what was found and what was expected.
#ifndef COMMON_JSON_FIELDS_H_
#define COMMON_JSON_FIELDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace quire {

// Parses `text`, which must be one JSON object; `file` names it in errors.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text,
                                               absl::string_view file);

// The fields of one object. A null field counts as absent; an absent field is
// an InvalidArgument unless a fallback is given. Borrows the object.
class JsonFields {
 public:
  // `where` is "config.json", or with a path of fields behind it.
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  // Null if absent.
  const nlohmann::json* Find(const char* name) const;
  // Whether it is there and null: for fields whose absence means something
  // else.
  bool IsNull(const char* name) const;

  // An integer of [low, high]. REQUIRES: int32_t bounds.
  absl::StatusOr<int32_t> Int(const char* name, int64_t low, int64_t high,
                              std::optional<int64_t> fallback = {}) const;
  // A finite number of [low, high].
  absl::StatusOr<double> Number(const char* name, double low, double high,
                                std::optional<double> fallback = {}) const;
  absl::StatusOr<bool> Bool(const char* name, bool fallback) const;
  absl::StatusOr<std::string> String(const char* name,
                                     absl::string_view fallback) const;

  // The error for a field whose value is not what was `expected`.
  absl::Status Wrong(const char* name, absl::string_view expected) const;
  // The same for a value that has a meaning, which Quire does not offer.
  absl::Status Unsupported(const char* name, absl::string_view expected) const;

  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace quire

#endif  // COMMON_JSON_FIELDS_H_
