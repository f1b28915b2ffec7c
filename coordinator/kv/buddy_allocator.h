// SPDX-License-Identifier: Apache-2.0
//
// Contiguous ranges of KV blocks by the buddy system (Knowlton, CACM 1965), as
// the reserving systems of the PagedAttention paper have them (SOSP'23,
// section 6.1): a range has a power of two blocks and starts at a multiple of
// its size; halves that are free again become a whole.
#ifndef COORDINATOR_KV_BUDDY_ALLOCATOR_H_
#define COORDINATOR_KV_BUDDY_ALLOCATOR_H_

#include <cstdint>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/ids.h"

namespace quire {

// Thread-compatible. Deals in block numbers only.
class BuddyAllocator {
 public:
  // Blocks are numbered [0, num_blocks). A number that is no power of two is
  // cut into the largest aligned ranges from the front: 13 is 8, 4 and 1.
  // REQUIRES: num_blocks > 0.
  explicit BuddyAllocator(int32_t num_blocks);

  // Blocks of the range that holds `num_blocks`: the next power of two.
  // REQUIRES: 0 < num_blocks <= 2^30.
  static int32_t RangeSize(int32_t num_blocks);

  // The largest range of an empty pool of `num_blocks`.
  static int32_t LargestRange(int32_t num_blocks);

  // The first block of a range of RangeSize(num_blocks), from the smallest
  // free range that holds it, the lowest of these. ResourceExhausted if none
  // does, however many blocks are free: external fragmentation.
  absl::StatusOr<BlockId> Allocate(int32_t num_blocks);

  // Gives a range back. REQUIRES: Allocate returned it, once.
  void Free(BlockId first);

  // Size of an allocated range. REQUIRES: as Free.
  int32_t SizeAt(BlockId first) const;

  int32_t num_free() const { return num_free_; }
  int32_t num_blocks() const { return static_cast<int32_t>(orders_.size()); }
  // What could be allocated next; 0: nothing.
  int32_t largest_free() const;

  // Internal unless every block is in exactly one range, free or allocated,
  // and no two free halves lie side by side.
  absl::Status CheckInvariants() const;

 private:
  int OrderAt(BlockId first) const;

  // [order] first blocks of the free ranges of 2^order blocks.
  std::vector<std::set<int32_t>> free_;
  std::vector<int8_t> orders_;  // [num_blocks] of the range allocated here, -1
  int32_t num_free_ = 0;
};

}  // namespace quire

#endif  // COORDINATOR_KV_BUDDY_ALLOCATOR_H_
