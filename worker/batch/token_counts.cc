// SPDX-License-Identifier: Apache-2.0
#include "worker/batch/token_counts.h"

namespace quire {

void TokenCounts::Clear() {
  seen_.clear();
  idx_.clear();
}

void TokenCounts::Reset(absl::Span<const TokenId> tokens, int32_t num_prompt) {
  Clear();
  for (int32_t i = 0; i < static_cast<int32_t>(tokens.size()); ++i) {
    SeenToken& seen = At(tokens[i]);
    if (i >= num_prompt) ++seen.output_count;
  }
}

SeenToken& TokenCounts::At(TokenId token) {
  const auto [it, is_new] = idx_.try_emplace(token, seen_.size());
  if (is_new) seen_.push_back({token, 0});
  return seen_[it->second];
}

}  // namespace quire
