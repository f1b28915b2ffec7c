// SPDX-License-Identifier: Apache-2.0
//
// A fixed set of equal KV blocks with reference counts. Bookkeeping only: it
// deals in block numbers, never addresses; each worker owns its own bytes. Only
// this and the buddy allocator make BlockIds.
#ifndef COORDINATOR_KV_BLOCK_POOL_H_
#define COORDINATOR_KV_BLOCK_POOL_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "glog/logging.h"

namespace quire {

// Thread-compatible. The engine loop is the sole caller, so there is no lock.
class BlockPool {
 public:
  // Blocks are numbered [0, num_blocks). REQUIRES: num_blocks > 0.
  explicit BlockPool(int32_t num_blocks);

  // Appends `n` blocks holding one reference each, or none at all.
  // ResourceExhausted means load, not a bug: the scheduler preempts.
  absl::Status Allocate(int32_t n, std::vector<BlockId>* blocks);

  // One block holding one reference. REQUIRES: num_free() > 0.
  BlockId AllocateOne() {
    CHECK_GT(num_free_, 0) << "no free KV block";
    const BlockId block = free_[--num_free_];
    Entry& entry = entries_[block.value()];
    entry.num_refs = 1;
    ++entry.generation;
    return block;
  }

  // Adds or drops one holder; the last Unref() frees the block.
  // REQUIRES: the block is held.
  void Ref(BlockId block) {
    Entry& entry = At(block);
    CHECK_GT(entry.num_refs, 0) << "reference to free block " << block;
    ++entry.num_refs;
  }
  void Unref(BlockId block) {
    Entry& entry = At(block);
    CHECK_GT(entry.num_refs, 0) << "double free of block " << block;
    if (--entry.num_refs == 0) free_[num_free_++] = block;
  }

  int32_t num_refs(BlockId block) const { return At(block).num_refs; }

  // How often the block has been handed out: a note of (block, generation)
  // tells whether the block is still the one that was meant.
  uint32_t generation(BlockId block) const { return At(block).generation; }

  int32_t num_free() const { return num_free_; }
  int32_t num_blocks() const { return static_cast<int32_t>(entries_.size()); }

  // Internal if the free stack and the reference counts disagree.
  absl::Status CheckInvariants() const;

 private:
  struct Entry {
    int32_t num_refs = 0;
    uint32_t generation = 0;
  };

  // The sign is tested too: a negative number is larger than any size.
  Entry& At(BlockId block) {
    CHECK_LT(static_cast<uint32_t>(block.value()), entries_.size());
    return entries_[block.value()];
  }
  const Entry& At(BlockId block) const {
    CHECK_LT(static_cast<uint32_t>(block.value()), entries_.size());
    return entries_[block.value()];
  }

  std::vector<Entry> entries_;  // [num_blocks]
  // [num_blocks], of which the first num_free_ count. A stack: the block freed
  // last is reused first.
  std::vector<BlockId> free_;
  int32_t num_free_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_POOL_H_
