// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_table.h"

#include "glog/logging.h"

namespace quire {

void BlockTable::Append(int32_t n, BlockPool* pool) {
  for (int32_t i = 0; i < n; ++i) blocks_.push_back(pool->AllocateOne());
}

void BlockTable::ForkFrom(const BlockTable& parent, int32_t num_blocks,
                          BlockPool* pool) {
  CHECK(blocks_.empty()) << "fork into a table of " << blocks_.size();
  CHECK_LE(num_blocks, parent.num_blocks());
  blocks_.assign(parent.blocks_.begin(), parent.blocks_.begin() + num_blocks);
  for (BlockId block : blocks_) pool->Ref(block);
}

BlockCopy BlockTable::ReplaceShared(int32_t logical_idx, BlockPool* pool) {
  CHECK(IsShared(logical_idx, *pool));
  const BlockId shared = blocks_[logical_idx];
  const BlockId own = pool->AllocateOne();
  blocks_[logical_idx] = own;
  pool->Unref(shared);
  return {.src = shared, .dst = own};
}

void BlockTable::Clear(BlockPool* pool) {
  // Backwards, so that a sequence admitted next gets them in the same order.
  for (auto it = blocks_.rbegin(); it != blocks_.rend(); ++it) {
    pool->Unref(*it);
  }
  blocks_.clear();
}

void BlockTable::ToggleAll(SlotId slot, TableDigest* digest) const {
  for (int32_t idx = 0; idx < num_blocks(); ++idx) {
    digest->Toggle(slot, idx, blocks_[idx].value());
  }
}

}  // namespace quire
