// SPDX-License-Identifier: Apache-2.0
//
// The blocks of one sequence in logical order. The only file that places a
// physical block in a logical position.
#ifndef COORDINATOR_KV_BLOCK_TABLE_H_
#define COORDINATOR_KV_BLOCK_TABLE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/step_plan.h"

namespace quire {

// Thread-compatible. Its owner holds one reference to each live() block on its
// behalf. Blocks that have left the attention window are dropped: their entries
// stay, so that coordinator and workers number the others alike, but nobody
// reads them and the blocks may be anyone's.
class BlockTable {
 public:
  // Entries, the dropped ones included.
  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  // The first so many entries are dropped.
  int32_t num_dropped() const { return num_dropped_; }
  BlockId block(int32_t logical_idx) const { return blocks_[logical_idx]; }
  const std::vector<BlockId>& blocks() const { return blocks_; }
  absl::Span<const BlockId> live() const {
    return {blocks_.data() + num_dropped_, blocks_.size() - num_dropped_};
  }

  // Adds an entry at the end.
  void Append(BlockId block) { blocks_.push_back(block); }

  // Puts `own` in the place of a block that may not be written, and says what
  // must be copied first. REQUIRES: not dropped.
  BlockCopy Replace(int32_t logical_idx, BlockId own);

  // Starts as the first `num_blocks` entries of `parent`. REQUIRES: this table
  // is empty and the parent has that many.
  void ForkFrom(const BlockTable& parent, int32_t num_blocks);

  // Entries before `logical_idx` are dropped. REQUIRES: logical_idx in
  // [num_dropped(), num_blocks()].
  void DropBefore(int32_t logical_idx);

  void Clear();

  // Adds every entry to a digest, or takes it out again.
  void ToggleAll(SlotId slot, TableDigest* digest) const;

 private:
  std::vector<BlockId> blocks_;
  int32_t num_dropped_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_TABLE_H_
