// SPDX-License-Identifier: Apache-2.0
#include "coordinator/kv/block_pool.h"

#include "absl/strings/str_cat.h"

namespace quire {

BlockPool::BlockPool(int32_t num_blocks) {
  CHECK_GT(num_blocks, 0);
  entries_.resize(num_blocks);
  free_.reserve(num_blocks);
  // Block 0 is on top of the stack.
  for (int32_t block = num_blocks - 1; block >= 0; --block) {
    free_.push_back(BlockId(block));
  }
  num_free_ = num_blocks;
}

absl::Status BlockPool::Allocate(int32_t n, std::vector<BlockId>* blocks) {
  CHECK_GE(n, 0);
  if (n > num_free_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "want ", n, " KV blocks, have ", num_free_, " free of ", num_blocks()));
  }
  for (int32_t i = 0; i < n; ++i) blocks->push_back(AllocateOne());
  return absl::OkStatus();
}

absl::Status BlockPool::CheckInvariants() const {
  int32_t num_unheld = 0;
  for (const Entry& entry : entries_) {
    if (entry.num_refs < 0) {
      return absl::InternalError("a KV block has a negative reference count");
    }
    num_unheld += entry.num_refs == 0;
  }
  if (num_unheld != num_free_) {
    return absl::InternalError(absl::StrCat(
        num_unheld, " KV blocks have no holder, but ", num_free_, " are free"));
  }
  std::vector<bool> seen(entries_.size());
  for (int32_t i = 0; i < num_free_; ++i) {
    const BlockId block = free_[i];
    if (entries_[block.value()].num_refs != 0 || seen[block.value()]) {
      return absl::InternalError(absl::StrCat(
          "KV block ", block.value(), " is held or twice in the free stack"));
    }
    seen[block.value()] = true;
  }
  return absl::OkStatus();
}

}  // namespace quire
