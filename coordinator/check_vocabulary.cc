// SPDX-License-Identifier: Apache-2.0
#include "coordinator/check_vocabulary.h"

#include "absl/strings/str_cat.h"

namespace quire {

absl::Status CheckVocabulary(const std::string& folder,
                             int32_t model_vocab_size,
                             int32_t tokenizer_vocab_size,
                             absl::FunctionRef<bool(TokenId)> is_text) {
  int32_t num_beyond = 0;
  TokenId last = 0;
  for (TokenId id = model_vocab_size; id < tokenizer_vocab_size; ++id) {
    if (!is_text(id)) continue;
    ++num_beyond;
    last = id;
  }
  if (num_beyond == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      folder, ": tokenizer.json has ", num_beyond, " tokens of text, up to id ",
      last, ", beyond config.json's vocab_size ", model_vocab_size,
      "; take both from the same release of the model, or serve token ids "
      "alone with --skip_tokenizer_init"));
}

}  // namespace quire
