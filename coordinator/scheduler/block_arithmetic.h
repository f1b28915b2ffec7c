// SPDX-License-Identifier: Apache-2.0
//
// What a step takes from the pool, by the arithmetic of
// coordinator/kv/kv_manager.h.
#ifndef COORDINATOR_SCHEDULER_BLOCK_ARITHMETIC_H_
#define COORDINATOR_SCHEDULER_BLOCK_ARITHMETIC_H_

#include <algorithm>
#include <cstdint>

#include "coordinator/scheduler/policy.h"

namespace quire {

inline int32_t BlocksFor(int32_t num_tokens, int32_t block_size) {
  return (num_tokens + block_size - 1) / block_size;
}

// Blocks that `seq` lacks for its next `num_new` tokens.
inline int32_t GrowthBlocks(const RunningSequence& seq, int32_t num_new,
                            int32_t block_size) {
  const int32_t num_tokens = seq.num_computed_tokens + num_new;
  // The common case, without a division.
  const int32_t num_appended =
      num_tokens <= seq.num_blocks * block_size
          ? 0
          : BlocksFor(num_tokens, block_size) - seq.num_blocks;
  return num_appended + (seq.shares_last_block ? 1 : 0);
}

// The largest part of its next `num_tokens` that `num_free` blocks can hold.
inline int32_t FittingTokens(const RunningSequence& seq, int32_t num_tokens,
                             int32_t num_free, int32_t block_size) {
  if (GrowthBlocks(seq, num_tokens, block_size) <= num_free) return num_tokens;
  const int32_t num_blocks =
      seq.num_blocks + num_free - (seq.shares_last_block ? 1 : 0);
  return std::max(0, std::min(num_tokens, num_blocks * block_size -
                                              seq.num_computed_tokens));
}

// Blocks that a prompt was promised when it was admitted and has not taken.
// What it gives back behind its window it may take again.
inline int32_t PromisedBlocks(const RunningSequence& seq, const View& view) {
  const int32_t num_left =
      BlocksFor(seq.num_prefill_tokens, view.block_size) - seq.num_blocks;
  const int32_t num_held = seq.num_blocks - seq.num_dropped_blocks;
  return std::max(0, std::min(num_left, view.max_seq_blocks - num_held)) +
         (seq.shares_last_block ? 1 : 0);
}

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_BLOCK_ARITHMETIC_H_
