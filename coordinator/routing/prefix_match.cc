// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/prefix_match.h"

#include <algorithm>

#include "coordinator/kv/attention_window.h"

namespace quire {

std::vector<BlockKey> PrefixKeys(CacheScope scope,
                                 absl::Span<const TokenId> prompt,
                                 int32_t block_size) {
  std::vector<BlockKey> keys;
  if (scope == 0) return keys;
  const HashKey hash_key = ProcessHashKey();
  BlockKey key = ScopeKey(hash_key, scope);
  const size_t num_full = prompt.size() / block_size;
  keys.reserve(num_full);
  for (size_t idx = 0; idx < num_full; ++idx) {
    key = ChainKey(hash_key, key, prompt.subspan(idx * block_size, block_size));
    keys.push_back(key);
  }
  return keys;
}

int32_t CountCachedTokens(const PrefixSummary::Reading& reading,
                          absl::Span<const BlockKey> keys,
                          int32_t num_prompt_tokens, int32_t block_size,
                          int32_t window) {
  int32_t num_found = 0;  // blocks of the longest prefix that can be had
  int32_t run_begin = 0;  // of the blocks that are there without gap
  for (int32_t idx = 0; idx < static_cast<int32_t>(keys.size()); ++idx) {
    if (!reading.Has(keys[idx])) {
      if (window == 0) break;
      run_begin = idx + 1;
      continue;
    }
    const int32_t first_seen =
        FirstSeenToken((idx + 1) * block_size, window) / block_size;
    if (run_begin <= first_seen) num_found = idx + 1;
  }
  return std::min(num_found * block_size, num_prompt_tokens - 1);
}

}  // namespace quire
