// SPDX-License-Identifier: Apache-2.0
#include "common/text/special_token_names.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/text/json_object.h"

namespace quire {
namespace {

constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token",
                                  "sep_token", "pad_token", "cls_token",
                                  "mask_token"};

}  // namespace

absl::StatusOr<SpecialTokenNames> ParseSpecialTokenNames(
    std::string_view tokenizer_config_json) {
  QUIRE_ASSIGN_OR_RETURN(
      const OrderedJson config,
      ParseJsonObject("tokenizer_config.json", tokenizer_config_json));
  SpecialTokenNames names;
  for (const char* role : kRoles) {
    auto it = config.find(role);
    if (it == config.end() || it->is_null()) continue;
    const OrderedJson* value = &*it;
    if (value->is_object() && value->contains("content")) {
      value = &(*value)["content"];
    }
    if (!value->is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokenizer_config.json: \"", role,
          "\" is neither a string nor an object with a string \"content\""));
    }
    names[role] = value->get<std::string>();
  }
  return names;
}

}  // namespace quire
