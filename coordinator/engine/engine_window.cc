// SPDX-License-Identifier: Apache-2.0
//
// How EngineCore leaves blocks behind. Where every layer has a sliding
// attention window, what a sequence's next token does not see nobody will ever
// ask its slot for: each plan begins by giving it back. So a sequence holds
// blocks of its window and of the chunk being computed, whatever its length.
#include <algorithm>
#include <cstdint>
#include <limits>

#include "coordinator/engine/engine_core.h"
#include "coordinator/kv/attention_window.h"

namespace quire {

void EngineCore::SetWindow(int32_t num_blocks) {
  window_ = 0;
  max_seq_blocks_ = std::numeric_limits<int32_t>::max();
  if (options_.sliding_window == 0 || !kv_->can_drop()) return;
  window_ = std::max(kLeastWindow, options_.sliding_window);
  const int64_t num_tokens =
      int64_t{window_} - 1 + options_.max_num_batched_tokens;
  max_seq_blocks_ = static_cast<int32_t>(std::min<int64_t>(
      num_blocks, MostBlocksOver(num_tokens, kv_->block_size())));
}

void EngineCore::DropBehindWindows() {
  if (window_ == 0) return;
  const int32_t block_size = kv_->block_size();
  for (size_t begin = 0; begin < running_.size();) {
    size_t end = begin;
    bool has_dropped = false;
    for (; end < running_.size() &&
           running_[end].arrival == running_[begin].arrival;
         ++end) {
      RunningSequence& entry = running_[end];
      const int32_t first_seen =
          FirstSeenToken(entry.num_computed_tokens, window_);
      const int32_t num_dropped =
          std::min(first_seen / block_size, entry.num_blocks);
      if (num_dropped <= entry.num_dropped_blocks) continue;
      kv_->DropBefore(entry.slot, first_seen);
      entry.num_dropped_blocks = num_dropped;
      has_dropped = true;
    }
    if (has_dropped) RefreshPrivateBlocks(begin, end);
    begin = end;
  }
}

int32_t EngineCore::MaxChunk(int32_t num_computed) const {
  if (window_ == 0) return options_.max_num_batched_tokens;
  const int32_t block_size = kv_->block_size();
  // Wherever the window begins in its block; or nothing is left behind at all.
  const int64_t num_wherever =
      (int64_t{max_seq_blocks_} - 1) * block_size - window_ + 2;
  const int64_t num_whole = int64_t{max_seq_blocks_} * block_size;
  return static_cast<int32_t>(
      std::min<int64_t>(std::max(num_wherever, num_whole - num_computed),
                        options_.max_num_batched_tokens));
}

}  // namespace quire
