// SPDX-License-Identifier: Apache-2.0
//
// Paged memory (PagedAttention, SOSP'23, section 4): blocks on demand, shared
// by reference count, copied when a sharer writes, found again by prefix, and
// moved to the host or dropped when sequences are preempted (section 4.5).
#ifndef COORDINATOR_KV_PAGED_MANAGER_H_
#define COORDINATOR_KV_PAGED_MANAGER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/block_place.h"
#include "coordinator/kv/block_store.h"
#include "coordinator/kv/block_table.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// Tables and what they hold; the blocks and their contents are BlockStore's.
class PagedManager final : public KvManager {
 public:
  // REQUIRES: num_blocks, max_num_seqs > 0; block_size a power of two.
  explicit PagedManager(const KvOptions& options);

  int32_t block_size() const override { return options_.block_size; }
  int32_t AdmissionTokens(int32_t num_tokens,
                          int32_t max_num_tokens) const override;
  KvReuse FindReusable(const KvAdmission& admission) const override;
  absl::Status Admit(SlotId slot, const KvAdmission& admission,
                     AdmittedSlot* admitted, StepPlan* plan) override;
  void Publish(SlotId slot, absl::Span<const TokenId> tokens,
               int32_t num_computed) override;
  void Park(SlotId slot, SequenceId sequence, int32_t num_computed,
            ParkMode mode) override;
  void Forget(SequenceId sequence) override;
  void ForgetAll() override;
  void DropBefore(SlotId slot, int32_t num_tokens) override;
  bool can_drop() const override { return true; }
  absl::Status Grow(SlotId slot, int32_t num_computed, int32_t num_new,
                    StepPlan* plan) override;
  void Fork(SlotId parent, SlotId child, int32_t num_tokens) override;
  void Release(SlotId slot) override;
  int32_t NumBlocks(SlotId slot) const override;
  int32_t NumPrivateBlocks(absl::Span<const SlotId> slots) const override;
  bool MustCopy(SlotId slot, int32_t num_computed) const override;
  BlockHolders HoldersOf(SlotId slot, int32_t num_computed) const override;
  CachePlacement Placement(SlotId slot) const override;
  KvUsage Usage() const override;
  uint64_t table_digest() const override { return digest_.value(); }
  absl::Status CheckInvariants() const override;

 private:
  struct Seat {
    BlockTable table;
    PrefixCursor cursor;
  };

  int32_t BlocksFor(int32_t num_tokens) const {
    return (num_tokens + options_.block_size - 1) / options_.block_size;
  }
  Seat& At(SlotId slot);
  const Seat& At(SlotId slot) const;
  bool IsHeldByOthers(BlockPlace place) const;

  const KvOptions options_;
  BlockStore store_;
  std::vector<Seat> seats_;  // [max_num_seqs]
  TableDigest digest_;
  // Scratch of Admit.
  std::vector<BlockPlace> places_;
  std::vector<BlockId> blocks_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_PAGED_MANAGER_H_
