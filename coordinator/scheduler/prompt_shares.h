// SPDX-License-Identifier: Apache-2.0
//
// Gives a step's budget for prompts, and the pool's free blocks, to tenants: a
// part at a time to whoever has been served least.
#ifndef COORDINATOR_SCHEDULER_PROMPT_SHARES_H_
#define COORDINATOR_SCHEDULER_PROMPT_SHARES_H_

#include <cstdint>
#include <vector>

#include "coordinator/scheduler/fair_pass.h"
#include "coordinator/scheduler/kept_groups.h"
#include "coordinator/scheduler/policy.h"

namespace quire {

// One call's counters; its memory is the decision's scratch.
class PromptShares {
 public:
  PromptShares(const View& view, const FairPassOptions& options,
               KeptGroups* kept, Decision* decision);

  // Lets the least served tenant within its guarantee whose head does not fit
  // take blocks back for it. Returns that tenant, or -1.
  int32_t Reclaim();

  // Chunks and, if they are allowed, admissions; those of `reclaimer` first.
  // To be called after decodes.
  void Share(int32_t reclaimer, bool may_admit);

  // Says why heads stay that nothing has been said of, and who was passed.
  void Explain(bool may_admit);

 private:
  void Prepare(int32_t reclaimer);
  void ListPrompts();
  bool LeadsByAStep(int32_t tenant_idx, int64_t counter) const;
  void FindFarAhead();
  void SetKey(int32_t tenant_idx);
  // Tokens that the tenant may have at once; 0: none in this step.
  int32_t PartOf(int32_t tenant_idx) const;
  bool IsAfter(int32_t a, int32_t b) const;
  // Gives the tenant a part. False: it can use no more.
  bool Give(int32_t tenant_idx);
  void GiveChunk(int32_t tenant_idx);
  bool Admit(int32_t tenant_idx);
  // It does not fit. False: nobody of its tenant may pass it.
  bool Pass(int32_t tenant_idx, const WaitingGroup& group);
  WaitDetail Obstacle(int32_t tenant_idx, const WaitingGroup& group) const;
  // The head that the pool is kept for, against that tenant; null if none.
  const WaitingGroup* KeptFor(int32_t tenant_idx) const;
  void CountBypass(int32_t tenant_idx);
  void Charge(int32_t tenant_idx, int32_t num_tokens);
  void Block(int32_t tenant_idx, const WaitDetail& why);
  int32_t Watermark(int32_t tenant_idx) const;
  const WaitingGroup& Head(int32_t tenant_idx) const {
    return view_.tenants[tenant_idx].waiting[shares_[tenant_idx].head_idx];
  }

  const View& view_;
  const FairPassOptions& options_;
  KeptGroups& kept_;
  Decision& decision_;
  std::vector<TenantShare>& shares_;  // [tenants]
  std::vector<int32_t>& next_;        // [running] next prompt of its tenant
  std::vector<int32_t>& heap_;        // tenants that can use more
  int64_t best_ = 0;                  // priority of those that want a prompt
  int32_t reclaimer_ = -1;
  bool may_admit_ = true;
  int32_t room_ = 0;
  int32_t num_slots_;
  int32_t quantum_;            // tokens of a part
  int32_t far_ahead_budget_;   // tokens left for tenants that are far ahead
  int32_t first_waiter_ = -1;  // tenant of the first head that does not fit
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_PROMPT_SHARES_H_
