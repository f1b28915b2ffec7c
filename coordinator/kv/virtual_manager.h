// SPDX-License-Identifier: Apache-2.0
//
// Virtual memory (vAttention, arXiv 2405.04437): each sequence has a row of
// addresses as long as the longest may become, of which the workers put memory
// behind the part that is used, a page group at a time. A block of this manager
// is a page group; it has no number, because a row's groups are its first ones.
//
// Every group is in one of three states: free (behind no row), used (behind a
// row that a slot holds, up to what the slot was given room for), or spare
// (behind any row, beyond that). Spare groups are those of rows that nobody
// holds, kept for the next sequence that takes the row (deferred reclamation,
// section 6.1.2), and those mapped one step before they are needed. They count
// as cached: whoever needs one takes it, from the row that was given back
// longest ago first.
#ifndef COORDINATOR_KV_VIRTUAL_MANAGER_H_
#define COORDINATOR_KV_VIRTUAL_MANAGER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/kv/kv_manager.h"

namespace quire {

// Shares nothing; a preempted sequence is computed anew.
class VirtualManager final : public KvManager {
 public:
  // `block_size`: tokens of a page group, any number. REQUIRES: num_blocks,
  // block_size, max_num_seqs, max_model_len > 0.
  explicit VirtualManager(const KvOptions& options);

  int32_t block_size() const override { return options_.block_size; }
  int32_t AdmissionTokens(int32_t num_tokens,
                          int32_t max_num_tokens) const override;
  // Of the rows that nobody holds, gives the one whose groups hold the known
  // tokens with the fewest to spare, or else the one with the most.
  absl::Status Admit(SlotId slot, const KvAdmission& admission,
                     AdmittedSlot* admitted, StepPlan* plan) override;
  absl::Status Grow(SlotId slot, int32_t num_computed, int32_t num_new,
                    StepPlan* plan) override;
  bool maps_ahead() const override { return true; }
  // Takes free groups and those of rows that nobody holds, while there are any.
  void MapAhead(SlotId slot, int32_t num_tokens, StepPlan* plan) override;
  void Fork(SlotId parent, SlotId child, int32_t num_tokens) override;
  bool can_fork() const override { return false; }
  void Release(SlotId slot) override;
  int32_t NumBlocks(SlotId slot) const override;
  int32_t NumPrivateBlocks(absl::Span<const SlotId> slots) const override;
  bool MustCopy(SlotId slot, int32_t num_computed) const override;
  CachePlacement Placement(SlotId slot) const override;
  KvUsage Usage() const override;
  uint64_t table_digest() const override { return digest_.value(); }
  absl::Status CheckInvariants() const override;

 private:
  struct Row {
    int32_t num_mapped = 0;  // groups that have memory
    int32_t num_used = 0;    // of these, the slot's; 0 if nobody holds it
    bool is_held = false;
    int64_t released = 0;  // when it was given back last: 1, 2, 3 ...

    int32_t num_spare() const { return num_mapped - num_used; }
  };

  int32_t GroupsFor(int32_t num_tokens) const {
    return (num_tokens + options_.block_size - 1) / options_.block_size;
  }
  int32_t RowOf(SlotId slot) const;
  int32_t ChooseRow(int32_t num_known_groups) const;
  // Takes groups back from rows, those that nobody holds first, until
  // `num_wanted` are free or there is nothing left to take but of `keeper`.
  void Reclaim(int32_t num_wanted, int32_t keeper, bool only_idle,
               StepPlan* plan);
  void SetMapped(int32_t row, int32_t num_groups, StepPlan* plan);
  // REQUIRES: enough groups are unused.
  void Use(int32_t row, int32_t num_groups, StepPlan* plan);

  const KvOptions options_;
  std::vector<Row> rows_;             // [max_num_seqs]
  std::vector<int32_t> row_of_slot_;  // [max_num_seqs] -1: it has none
  int32_t num_free_;
  int32_t num_used_ = 0;
  int64_t num_releases_ = 0;
  TableDigest digest_;
};

}  // namespace quire

#endif  // COORDINATOR_KV_VIRTUAL_MANAGER_H_
