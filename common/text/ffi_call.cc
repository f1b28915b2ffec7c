// SPDX-License-Identifier: Apache-2.0
#include "common/text/ffi_call.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::Status FfiStatus(int32_t code, const FfiBuffer& error,
                       std::string_view context) {
  if (code == QT_OK) return absl::OkStatus();
  const std::string message =
      absl::StrCat(absl::string_view(context.data(), context.size()),
                   context.empty() ? "" : ": ",
                   absl::string_view(error.view().data(), error.view().size()));
  if (code == QT_INVALID_ARGUMENT) return absl::InvalidArgumentError(message);
  return absl::InternalError(absl::StrCat("text library: ", message));
}

}  // namespace quire
