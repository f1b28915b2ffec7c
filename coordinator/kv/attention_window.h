// SPDX-License-Identifier: Apache-2.0
//
// What a sliding attention window leaves of a sequence's blocks. A query at
// position p sees positions (p - window, p]; a window of 0 sees everything.
#ifndef COORDINATOR_KV_ATTENTION_WINDOW_H_
#define COORDINATOR_KV_ATTENTION_WINDOW_H_

#include <algorithm>
#include <cstdint>

namespace quire {

// A window of one token sees nothing of what was computed before. Blocks are
// counted as if it saw one token more, so that a sequence always has one.
inline constexpr int32_t kLeastWindow = 2;

// The first position that is seen once `num_computed` tokens are computed, by
// the next one or any later.
inline int32_t FirstSeenToken(int32_t num_computed, int32_t window) {
  return window == 0 ? 0 : std::max(0, num_computed + 1 - window);
}

// The most blocks that `num_tokens` consecutive positions can lie in.
// REQUIRES: num_tokens > 0.
inline int64_t MostBlocksOver(int64_t num_tokens, int32_t block_size) {
  return (num_tokens - 1 + block_size - 1) / block_size + 1;
}

}  // namespace quire

#endif  // COORDINATOR_KV_ATTENTION_WINDOW_H_
