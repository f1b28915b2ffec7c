// SPDX-License-Identifier: Apache-2.0
//
// Whole numbers of flags, in narrower types.
#ifndef TOOLS_CLI_INTEGER_FLAG_H_
#define TOOLS_CLI_INTEGER_FLAG_H_

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace quire {

// `value` of the flag `name` as an Int. InvalidArgument, with the range, if it
// is outside [low, high].
template <typename Int>
absl::StatusOr<Int> InRange(absl::string_view name, int64_t value, Int low,
                            Int high = std::numeric_limits<Int>::max()) {
  if (value >= int64_t{low} && value <= int64_t{high}) {
    return static_cast<Int>(value);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, "=", value, " is outside ", low, "..", high));
}

}  // namespace quire

#endif  // TOOLS_CLI_INTEGER_FLAG_H_
