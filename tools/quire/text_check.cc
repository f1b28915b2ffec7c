// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/text_check.h"

#include "absl/strings/str_cat.h"
#include "common/text/utf8.h"

namespace quire {

absl::Status CheckText(absl::string_view what, absl::string_view text) {
  const size_t offset = ValidUtf8Prefix({text.data(), text.size()});
  if (offset == text.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(what, " is not UTF-8: bad byte at offset ", offset, " of ",
                   text.size(), "; convert it, such as with iconv"));
}

}  // namespace quire
