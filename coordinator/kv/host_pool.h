// SPDX-License-Identifier: Apache-2.0
//
// The host blocks that device blocks are swapped into, and the rules by which
// one step plan may use them. A worker runs all of a plan's swap-outs, then all
// of its swap-ins, each in no order. So within a plan
//   a host block that is read must not be written: one freed by a swap-in
//     waits for the next plan;
//   a host block is written once: whoever gets it second takes over the
//     swap-out that is in the plan, since nobody wants the first any more.
//
// Who goes first when no block is free: what preempted sequences left behind
// (kSurely) takes the place of prefixes (kPerhaps), the one that was moved here
// first, and then of its own kind; a prefix only that of another prefix. So
// prefixes fill what swaps leave over, and never keep a swap out.
#ifndef COORDINATOR_KV_HOST_POOL_H_
#define COORDINATOR_KV_HOST_POOL_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/block_pool.h"
#include "coordinator/kv/eviction_list.h"

namespace quire {

// Thread-compatible. A block is free, used and listed (its contents may be
// given up for others), or claimed (used and safe).
class HostPool {
 public:
  explicit HostPool(int32_t num_blocks);

  // A free block that `plan` does not read, or nothing. It is claimed then.
  std::optional<HostBlockId> Allocate(const StepPlan& plan);
  // REQUIRES: claimed.
  void Free(HostBlockId block);

  // Claimed to listed, and back.
  void List(HostBlockId block, CacheRank rank);
  void Claim(HostBlockId block);
  // The listed block whose contents are worth least, up to `rank`; the one
  // listed first of these. Nothing if there is none.
  std::optional<HostBlockId> NextVictim(CacheRank rank) const;
  bool is_listed(HostBlockId block) const {
    return perhaps_.contains(block) || surely_.contains(block);
  }
  // Listed under this rank alone.
  int32_t num_listed(CacheRank rank) const {
    return (rank == CacheRank::kPerhaps ? perhaps_ : surely_).size();
  }

  // Write the move into the plan. REQUIRES: `host` claimed, and for a swap-out
  // not read by the plan.
  void SwapOut(BlockId device, HostBlockId host, StepPlan* plan);
  void SwapIn(HostBlockId host, BlockId device, StepPlan* plan);

  int32_t num_blocks() const { return static_cast<int32_t>(uses_.size()); }
  int32_t num_free() const { return num_free_; }
  bool is_free(HostBlockId block) const { return uses_[block.value()].is_free; }

  // Internal unless the free ones and the lists are as they should be.
  absl::Status CheckInvariants() const;

 private:
  // Where the last swaps of a block stand in the plan that they were written
  // into. Another plan has, at that place, nothing or another block; so plans
  // need not be told apart.
  struct Uses {
    int32_t swap_out_idx = 0;
    int32_t swap_in_idx = 0;
    bool is_free = true;
  };

  bool IsReadBy(const StepPlan& plan, HostBlockId block) const;

  std::vector<Uses> uses_;  // [num_blocks]
  // A ring: the block freed longest ago is used first, so that those freed by
  // the plan being made come last.
  std::vector<HostBlockId> free_;  // [num_blocks]
  int32_t first_free_ = 0;
  int32_t num_free_ = 0;
  EvictionList<HostBlockId> perhaps_;
  EvictionList<HostBlockId> surely_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_HOST_POOL_H_
