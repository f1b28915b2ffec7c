// SPDX-License-Identifier: Apache-2.0
//
// JSON that came from outside, read with bounds.
#ifndef COMMON_TEXT_JSON_OBJECT_H_
#define COMMON_TEXT_JSON_OBJECT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace quire {

// Keeps the order of keys, which tojson in a chat template shows to the model.
using OrderedJson = nlohmann::ordered_json;

// `text` as a JSON object; an empty text is an empty object. InvalidArgument,
// beginning with `what`, if it is anything else or nested deeper than 64.
absl::StatusOr<OrderedJson> ParseJsonObject(std::string_view what,
                                            std::string_view text);

// The same for any JSON value; an empty text is none.
absl::StatusOr<OrderedJson> ParseJsonValue(std::string_view what,
                                           std::string_view text);

// Without line breaks; text that is not UTF-8 shows as U+FFFD.
std::string DumpJson(const OrderedJson& value);

}  // namespace quire

#endif  // COMMON_TEXT_JSON_OBJECT_H_
