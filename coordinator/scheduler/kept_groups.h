// SPDX-License-Identifier: Apache-2.0
//
// Of the running groups, those that a pass over several tenants has not
// preempted, and what is left for them of blocks and budget.
#ifndef COORDINATOR_SCHEDULER_KEPT_GROUPS_H_
#define COORDINATOR_SCHEDULER_KEPT_GROUPS_H_

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/policy.h"

namespace quire {

// One call's counters; its memory is the decision's scratch.
class KeptGroups {
 public:
  KeptGroups(const View& view, Decision* decision);

  bool is_kept(int32_t idx) const { return kept_[idx] != 0; }
  bool is_any_kept() const { return num_kept_ > 0; }
  // Its tenant is within its guarantee, or it was preempted often enough.
  bool is_safe(int32_t idx) const;

  // Takes back the group of sequence `idx` for the group of that arrival.
  void Preempt(int32_t idx, int64_t for_arrival);

  // Makes room for the next token of `idx` by preempting, the last arrived
  // first: of its tenant, if that is at its maximum; of those that are not
  // safe, if it is; of those as safe as it. False: it had to go itself.
  bool MakeRoom(int32_t idx, bool is_safe);
  void TakeDecode(int32_t idx);
  void GiveBackDecode(int32_t idx);

  // Takes back the last groups that are not safe, of other tenants, until
  // `num_wanted` blocks are free beyond what running prompts were promised.
  // False, and nothing is done, if they have not so many.
  bool Reclaim(int32_t tenant_idx, int32_t num_wanted, int64_t for_arrival);

  // Prompts alone that hold the whole pool between them: the last makes room.
  void PreemptIfStuck();

  // Blocks that nobody has and no running prompt was promised.
  int32_t Room() const;
  int32_t num_held(int32_t tenant_idx) const { return held_[tenant_idx]; }
  void Hold(int32_t tenant_idx, int32_t num_blocks) {
    held_[tenant_idx] += num_blocks;
    num_free_ -= num_blocks;
  }
  // Kept free for a head, out of reach for those that are not safe.
  void Earmark(int32_t num_blocks) { num_earmarked_ = num_blocks; }

  int32_t num_free() const { return num_free_; }
  int32_t budget() const { return budget_; }
  void Spend(int32_t num_tokens) { budget_ -= num_tokens; }

 private:
  int32_t Growth(int32_t idx) const;
  // The last kept sequence for which `wanted` holds; -1 if there is none.
  template <typename Wanted>
  int32_t LastKept(Wanted wanted) const;

  const View& view_;
  Decision& decision_;
  std::vector<uint8_t>& kept_;  // [running]
  std::vector<int32_t>& held_;  // [tenants] blocks
  int32_t num_kept_;            // sequences
  int32_t num_free_;
  int32_t num_earmarked_ = 0;
  int32_t budget_;
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_KEPT_GROUPS_H_
