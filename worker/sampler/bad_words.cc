// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/bad_words.h"

#include <algorithm>

namespace quire {

void AppendBadTokens(absl::Span<const std::vector<TokenId>> words,
                     absl::Span<const TokenId> output,
                     std::vector<int32_t>* masked) {
  for (const std::vector<TokenId>& word : words) {
    const size_t num_before = word.size() - 1;
    if (num_before > output.size()) continue;
    if (std::equal(word.begin(), word.end() - 1, output.end() - num_before)) {
      masked->push_back(word.back());
    }
  }
}

}  // namespace quire
