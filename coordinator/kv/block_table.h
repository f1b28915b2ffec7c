// SPDX-License-Identifier: Apache-2.0
//
// The blocks of one sequence in logical order. The only file that places a
// physical block in a logical position, shares it with another sequence, or
// replaces a shared one by a copy before it is written.
#ifndef COORDINATOR_KV_BLOCK_TABLE_H_
#define COORDINATOR_KV_BLOCK_TABLE_H_

#include <cstdint>
#include <vector>

#include "common/digest.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/block_pool.h"

namespace quire {

// Thread-compatible. Holds one reference to each of its blocks until Clear();
// it does not know its pool, so its owner must call Clear() before the end.
class BlockTable {
 public:
  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()); }
  BlockId block(int32_t logical_idx) const { return blocks_[logical_idx]; }
  const std::vector<BlockId>& blocks() const { return blocks_; }

  // Takes `n` new blocks at the end. REQUIRES: pool->num_free() >= n.
  void Append(int32_t n, BlockPool* pool);

  // Shares the first `num_blocks` blocks of `parent`. REQUIRES: this table is
  // empty and the parent has that many.
  void ForkFrom(const BlockTable& parent, int32_t num_blocks, BlockPool* pool);

  // Whether someone else holds the block too, so that it may not be written.
  bool IsShared(int32_t logical_idx, const BlockPool& pool) const {
    return pool.num_refs(blocks_[logical_idx]) > 1;
  }

  // Copy-on-write: puts a new block in the place of a shared one and says what
  // must be copied before it is written. REQUIRES: IsShared() and a free block.
  BlockCopy ReplaceShared(int32_t logical_idx, BlockPool* pool);

  // Drops every block.
  void Clear(BlockPool* pool);

  // Adds every entry to a digest, or takes it out again.
  void ToggleAll(SlotId slot, TableDigest* digest) const;

 private:
  std::vector<BlockId> blocks_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_TABLE_H_
