// SPDX-License-Identifier: Apache-2.0
#include "common/sparse_attention.h"

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace quire {

absl::StatusOr<int32_t> ParseSparseAttention(absl::string_view value) {
  if (value.empty()) return 0;
  absl::string_view number = value;
  int32_t num_pages = 0;
  // SimpleAtoi would take spaces and signs.
  if (!absl::ConsumePrefix(&number, "top_pages:") ||
      number.find_first_not_of("0123456789") != absl::string_view::npos ||
      !absl::SimpleAtoi(number, &num_pages) || num_pages < kMinSparsePages) {
    return absl::InvalidArgumentError(
        absl::StrCat("--sparse_attention=", value,
                     ": it may be top_pages:K, where a decode "
                     "reads K KV blocks, at least ",
                     kMinSparsePages, "; or empty"));
  }
  return num_pages;
}

std::string SparseAttentionFlag(int32_t num_pages) {
  return absl::StrCat("--sparse_attention=top_pages:", num_pages);
}

}  // namespace quire
