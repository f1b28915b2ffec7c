// SPDX-License-Identifier: Apache-2.0
//
// Contiguous reservation at admission: what serving systems did before paging,
// and what the PagedAttention paper compares with (SOSP'23, section 6.1). A
// sequence gets one buddy-rounded range of blocks for as long as a length rule
// says it may become, and never more. Blocks in a row are a block table too, so
// workers run it as they run paged memory.
#ifndef COORDINATOR_KV_RESERVED_MANAGER_H_
#define COORDINATOR_KV_RESERVED_MANAGER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/buddy_allocator.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// Tokens that are reserved for a sequence, as the paper's three Orcas do.
enum class LengthRule {
  kMax,     // max_model_len, whatever is asked for
  kPow2,    // known tokens and the next power of two of those still to come
  kOracle,  // known tokens and those still to come, as if that were known;
            // true of traces that set max_tokens to the true output length
};

// Shares nothing. An admission that finds enough free blocks but not in a row
// is refused like any other: ResourceExhausted.
class ReservedManager final : public KvManager {
 public:
  // REQUIRES: num_blocks, max_num_seqs, max_model_len > 0; block_size a power
  // of two.
  ReservedManager(const KvOptions& options, LengthRule rule);

  // Blocks of the range for a sequence of `num_tokens` known tokens that may
  // become `max_num_tokens` long. An empty pool has such a range exactly if it
  // has so many blocks, and n of them if it has n times as many.
  static int32_t NumRangeBlocks(const KvOptions& options, LengthRule rule,
                                int32_t num_tokens, int32_t max_num_tokens);

  // The most that this comes to for one that has `num_tokens` known tokens or
  // more: one that starts anew with what it has may be given a larger range
  // than at first, because the next power of two is another.
  static int32_t MostRangeBlocks(const KvOptions& options, LengthRule rule,
                                 int32_t num_tokens, int32_t max_num_tokens);

  int32_t block_size() const override { return options_.block_size; }
  bool reserves() const override { return true; }
  // The whole range, so that a policy's arithmetic is the allocator's.
  int32_t AdmissionTokens(int32_t num_tokens,
                          int32_t max_num_tokens) const override;
  absl::Status Admit(SlotId slot, const KvAdmission& admission,
                     AdmittedSlot* admitted, StepPlan* plan) override;
  // Takes nothing. REQUIRES: within the reservation.
  absl::Status Grow(SlotId slot, int32_t num_computed, int32_t num_new,
                    StepPlan* plan) override;
  void Fork(SlotId parent, SlotId child, int32_t num_tokens) override;
  bool can_fork() const override { return false; }
  void Release(SlotId slot) override;
  // Of the table; the range has more if its size was rounded up.
  int32_t NumBlocks(SlotId slot) const override;
  int32_t NumPrivateBlocks(absl::Span<const SlotId> slots) const override;
  bool MustCopy(SlotId slot, int32_t num_computed) const override;
  CachePlacement Placement(SlotId slot) const override;
  KvUsage Usage() const override;
  uint64_t table_digest() const override { return digest_.value(); }
  absl::Status CheckInvariants() const override;

 private:
  struct Range {
    BlockId first;
    int32_t num_blocks = 0;  // in the table; 0: the slot holds nothing
  };

  const Range& At(SlotId slot) const;
  void ToggleAll(SlotId slot, TableDigest* digest) const;

  const KvOptions options_;
  const LengthRule rule_;
  BuddyAllocator pool_;
  std::vector<Range> ranges_;  // [max_num_seqs]
  TableDigest digest_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_RESERVED_MANAGER_H_
