// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_table.h"

#include <algorithm>

#include "glog/logging.h"

namespace quire {

BlockCopy BlockTable::Replace(int32_t logical_idx, BlockId own) {
  CHECK_GE(logical_idx, num_dropped_);
  CHECK_LT(logical_idx, num_blocks());
  const BlockId shared = blocks_[logical_idx];
  blocks_[logical_idx] = own;
  return {.src = shared, .dst = own};
}

void BlockTable::ForkFrom(const BlockTable& parent, int32_t num_blocks) {
  CHECK(blocks_.empty()) << "fork into a table of " << blocks_.size();
  CHECK_LE(num_blocks, parent.num_blocks());
  blocks_.assign(parent.blocks_.begin(), parent.blocks_.begin() + num_blocks);
  num_dropped_ = std::min(parent.num_dropped_, num_blocks);
}

void BlockTable::DropBefore(int32_t logical_idx) {
  CHECK_GE(logical_idx, num_dropped_);
  CHECK_LE(logical_idx, num_blocks());
  num_dropped_ = logical_idx;
}

void BlockTable::Clear() {
  blocks_.clear();
  num_dropped_ = 0;
}

void BlockTable::ToggleAll(SlotId slot, TableDigest* digest) const {
  for (int32_t idx = 0; idx < num_blocks(); ++idx) {
    digest->Toggle(slot, idx, blocks_[idx].value());
  }
}

}  // namespace quire
