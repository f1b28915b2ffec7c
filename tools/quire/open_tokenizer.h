// SPDX-License-Identifier: Apache-2.0
//
// The tokenizer of a model folder that a command was given.
#ifndef TOOLS_QUIRE_OPEN_TOKENIZER_H_
#define TOOLS_QUIRE_OPEN_TOKENIZER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/text/tokenizer.h"

namespace quire {

// `model` is a Hugging Face folder; "": the demo model's. Errors are one line
// and say what to do.
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(
    const std::string& model);

}  // namespace quire

#endif  // TOOLS_QUIRE_OPEN_TOKENIZER_H_
