// SPDX-License-Identifier: Apache-2.0
//
// Runs of tokens that an output must not hold.
#ifndef WORKER_SAMPLER_BAD_WORDS_H_
#define WORKER_SAMPLER_BAD_WORDS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"

namespace quire {

// Appends to `masked` the last token of every word whose other tokens are what
// `output` ends with, as vLLM does: the prompt does not count.
void AppendBadTokens(absl::Span<const std::vector<TokenId>> words,
                     absl::Span<const TokenId> output,
                     std::vector<int32_t>* masked);

}  // namespace quire

#endif  // WORKER_SAMPLER_BAD_WORDS_H_
