// SPDX-License-Identifier: Apache-2.0
#ifndef COORDINATOR_CHECK_VOCABULARY_H_
#define COORDINATOR_CHECK_VOCABULARY_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "common/ids.h"

namespace quire {

// Whether every token that text may become has a row in the model's embedding.
// `model_vocab_size`: of config.json; `tokenizer_vocab_size`: ids of the
// tokenizer, of which `is_text` says whether ordinary text has the token.
// Control tokens beyond the embedding do no harm until someone asks for them:
// many a tokenizer was given a padding token that its model never saw.
// InvalidArgument counts the tokens, and says what to do.
absl::Status CheckVocabulary(const std::string& folder,
                             int32_t model_vocab_size,
                             int32_t tokenizer_vocab_size,
                             absl::FunctionRef<bool(TokenId)> is_text);

}  // namespace quire

#endif  // COORDINATOR_CHECK_VOCABULARY_H_
