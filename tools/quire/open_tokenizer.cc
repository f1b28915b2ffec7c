// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/open_tokenizer.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tools/quire/binaries.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(
    const std::string& model) {
  std::string folder = model;
  if (folder.empty()) {
    QUIRE_ASSIGN_OR_RETURN(folder, FindDemoModel(OwnPath()));
  }
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    return absl::NotFoundError(
        absl::StrCat("--model=", folder, " is not a folder"));
  }
  const std::string file = absl::StrCat(folder, "/tokenizer.json");
  if (!std::filesystem::exists(file, error)) {
    return absl::NotFoundError(
        absl::StrCat("--model=", folder,
                     " has no tokenizer.json; transformers writes one: "
                     "AutoTokenizer.from_pretrained(\"",
                     folder, "\").save_pretrained(\"", folder, "\")"));
  }
  return Tokenizer::Load(file);
}

}  // namespace quire
