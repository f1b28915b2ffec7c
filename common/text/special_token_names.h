// SPDX-License-Identifier: Apache-2.0
//
// The special tokens that a tokenizer_config.json names by their role.
#ifndef COMMON_TEXT_SPECIAL_TOKEN_NAMES_H_
#define COMMON_TEXT_SPECIAL_TOKEN_NAMES_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace quire {

// Role ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
// "cls_token", "mask_token") to spelling. Roles that are null or absent in the
// file are absent here.
using SpecialTokenNames = std::map<std::string, std::string, std::less<>>;

// Each role is a string or an object with a string "content"; anything else is
// InvalidArgument and names the role.
absl::StatusOr<SpecialTokenNames> ParseSpecialTokenNames(
    std::string_view tokenizer_config_json);

}  // namespace quire

#endif  // COMMON_TEXT_SPECIAL_TOKEN_NAMES_H_
