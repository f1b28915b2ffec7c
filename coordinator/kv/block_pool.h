// SPDX-License-Identifier: Apache-2.0
//
// A fixed set of equal KV blocks with reference counts. Bookkeeping only: it
// deals in block numbers, never addresses; each worker owns its own bytes. No
// other file makes a BlockId.
//
// A block is in one of three states:
//   held    somebody holds a reference
//   cached  nobody does, but its contents may be wanted again
//   free
#ifndef COORDINATOR_KV_BLOCK_POOL_H_
#define COORDINATOR_KV_BLOCK_POOL_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "coordinator/kv/eviction_list.h"
#include "glog/logging.h"

namespace quire {

// What is the contents of a cached block worth? The lesser goes first.
enum class CacheRank {
  kPerhaps,  // somebody may ask for them
  kSurely,   // a preempted sequence will
};

// Thread-compatible. The engine loop is the sole caller, so there is no lock.
class BlockPool {
 public:
  // Blocks are numbered [0, num_blocks). REQUIRES: num_blocks > 0.
  explicit BlockPool(int32_t num_blocks);

  // Appends `n` free blocks holding one reference each, or none at all.
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

  // Drops the last holder of a block but keeps its contents: held to cached.
  // REQUIRES: num_refs(block) == 1.
  void Cache(BlockId block, CacheRank rank);
  // Takes a cached block back as it is: cached to held, by one.
  void Revive(BlockId block);
  // Gives the contents up: cached to free.
  void Free(BlockId block);
  // As if it had just been cached. REQUIRES: cached.
  void Touch(BlockId block, CacheRank rank);
  // The cached block whose contents go next: of the lesser rank, and cached
  // longest ago. REQUIRES: num_cached() > 0.
  BlockId NextVictim() const;

  int32_t num_refs(BlockId block) const { return At(block).num_refs; }
  bool is_cached(BlockId block) const {
    return perhaps_.contains(block) || surely_.contains(block);
  }
  CacheRank rank(BlockId block) const;

  // How often the block has been handed out: a note of (block, generation)
  // tells whether the block is still the one that was meant.
  uint32_t generation(BlockId block) const { return At(block).generation; }

  int32_t num_free() const { return num_free_; }
  int32_t num_cached() const { return perhaps_.size() + surely_.size(); }
  // For the taking.
  int32_t num_available() const { return num_free() + num_cached(); }
  int32_t num_blocks() const { return static_cast<int32_t>(entries_.size()); }

  // Internal unless every block is in exactly one state.
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
  EvictionList<BlockId>& List(CacheRank rank) {
    return rank == CacheRank::kPerhaps ? perhaps_ : surely_;
  }
  // REQUIRES: cached.
  void Uncache(BlockId block);

  std::vector<Entry> entries_;  // [num_blocks]
  // [num_blocks], of which the first num_free_ count. A stack: the block freed
  // last is reused first.
  std::vector<BlockId> free_;
  int32_t num_free_ = 0;
  // The cached ones, by rank.
  EvictionList<BlockId> perhaps_;
  EvictionList<BlockId> surely_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_BLOCK_POOL_H_
