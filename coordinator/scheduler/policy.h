// SPDX-License-Identifier: Apache-2.0
//
// What one iteration computes, decided from a snapshot. A policy is a pure
// function: no clock, no RPC, no allocation of blocks, no memory of its own. It
// counts blocks by the arithmetic of coordinator/kv/kv_manager.h; the engine
// then asks the KV manager for them.
#ifndef COORDINATOR_SCHEDULER_POLICY_H_
#define COORDINATOR_SCHEDULER_POLICY_H_

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "coordinator/scheduler/wait_reason.h"

namespace quire {

// A sequence that holds a slot. Lengths count tokens in flight (planned in
// steps whose results are not known yet) as if they were there.
struct RunningSequence {
  int64_t arrival = 0;   // of its group, which siblings share: the group's name
  int64_t rank = 0;      // the lower goes first; see engine/service_order.h
  int32_t priority = 0;  // as it was asked for, not aged
  SlotId slot;
  int32_t tenant_idx = 0;             // into View::tenants, if there are any
  int32_t num_group_preemptions = 0;  // of its group, so far
  int32_t num_tokens = 0;             // prompt and outputs
  int32_t num_computed_tokens = 0;
  // Known when it was admitted. It is prefilled up to here, then decodes.
  int32_t num_prefill_tokens = 0;
  int32_t max_num_tokens = 0;      // no step is planned once it is this long
  int32_t num_blocks = 0;          // in its table, the dropped ones included
  int32_t num_dropped_blocks = 0;  // given back behind its attention window
  // That come back to the pool if its whole group is released.
  int32_t num_private_blocks = 0;
  bool shares_last_block = false;  // the next write copies a block first
  // The engine's own: the next write must be shown to the KV manager, room or
  // not. It copies no more than shares_last_block says.
  bool must_ask = false;
  bool awaits_result = false;  // may not be planned before the last result
  bool runs_alone = false;     // its group; see run_alone.h

  bool is_prefill() const { return num_computed_tokens < num_prefill_tokens; }
  bool is_exhausted() const { return num_tokens >= max_num_tokens; }
};

// A sequence group that holds nothing.
struct WaitingGroup {
  int64_t arrival = 0;
  int64_t rank = 0;      // the lower goes first; see engine/service_order.h
  int32_t priority = 0;  // as it was asked for, not aged
  RequestKey key = {};
  // To compute before all its sequences decode; what an admission would find
  // computed is left out.
  int32_t num_tokens = 0;
  // That an admission takes from the free ones until all that is computed,
  // reservations included and blocks that others hold already left out.
  int32_t num_wanted_blocks = 0;
  int32_t num_seqs = 1;      // slots that it takes
  int32_t num_bypasses = 0;  // admissions of others while it was the head
  bool preempted = false;    // has run before: nobody goes past it
  bool ready = true;         // false: its last results are still in flight
  bool runs_alone = false;   // see run_alone.h
};

// One of several tenants. One that has no group at all may be among them.
struct TenantView {
  absl::Span<const WaitingGroup> waiting;  // by (rank, arrival)
  // Weighted tokens that it has been served: virtual token counters (VTC,
  // OSDI'24). The least goes first.
  int64_t counter = 0;
  int64_t cost_per_token = 0;  // that a computed prompt token adds
  // Blocks that its groups share with nobody.
  int32_t num_held_blocks = 0;
  // Up to here nobody may take them away; beyond, they are borrowed.
  int32_t num_guaranteed_blocks = 0;
  int32_t max_num_blocks = std::numeric_limits<int32_t>::max();
};

// A snapshot. The spans live as long as the call.
struct View {
  // By (rank, arrival); siblings are adjacent.
  absl::Span<const RunningSequence> running;
  // By (rank, arrival). Empty if there are tenants.
  absl::Span<const WaitingGroup> waiting;
  // Only for a policy that shares_by_tenant(), and when more than one tenant
  // has groups or one has a limit. Then every waiting group is in its tenant's.
  absl::Span<const TenantView> tenants;
  bool has_quotas = false;  // some tenant has a guarantee or a maximum
  // What rank counts from, and how much of it is a level; 0: rank is the
  // priority. See engine/service_order.h.
  int64_t rank_now = 0;
  int64_t rank_per_level = 0;

  // Priority with what waiting has earned: one level for each period waited.
  int64_t LevelOf(int64_t rank) const {
    if (rank_per_level == 0) return rank;
    const int64_t ahead = rank - rank_now;
    return ahead >= 0 ? (ahead + rank_per_level - 1) / rank_per_level
                      : -(-ahead / rank_per_level);
  }
  int32_t block_size = 16;
  // That a sequence holds at once: with an attention window, those of it and of
  // the largest chunk, as the rest is given back.
  int32_t max_seq_blocks = std::numeric_limits<int32_t>::max();
  int32_t num_free_blocks = 0;   // for the taking: free and cached
  int32_t watermark_blocks = 0;  // left free by an admission, if others run
  int32_t num_free_slots = 0;
  int32_t max_num_batched_tokens = 0;  // token budget of the step
  int32_t token_multiple = 1;          // steps are cut to it: round_tokens.h
  // Preempt the last group that has gained a token since it was admitted, room
  // or not: a test of exactness under preemption.
  bool force_preemption = false;
};

struct ScheduledSlice {
  int32_t running_idx = 0;  // into View::running
  int32_t num_tokens = 0;

  friend bool operator==(const ScheduledSlice&,
                         const ScheduledSlice&) = default;
};

struct Admission {
  int32_t waiting_idx = 0;  // into View::waiting, or its tenant's
  int32_t num_tokens = 0;   // that this step computes
  int32_t tenant_idx = 0;   // into View::tenants, if there are any

  friend bool operator==(const Admission&, const Admission&) = default;
};

// Why a group that was looked at was not admitted.
struct Blocked {
  int32_t tenant_idx = 0;   // into View::tenants, if there are any
  int32_t waiting_idx = 0;  // into View::waiting, or its tenant's
  WaitDetail why;
};

// A group that did not fit while num_others behind it were admitted.
struct Bypass {
  int32_t tenant_idx = 0;
  int32_t waiting_idx = 0;
  int32_t num_others = 0;
};

// How far a policy has come with a tenant's prompts within one step.
struct TenantShare {
  int64_t counter = 0;  // with what the step has given it
  int64_t level = 0;    // of what comes next
  int64_t rank = 0;
  int32_t running_idx = -1;    // the prompt that comes next; -1: none is left
  int32_t slice_idx = -1;      // of Decision::slices, if it has a part
  int32_t waiting_idx = 0;     // who comes next after the prompts
  int32_t admission_idx = -1;  // the last, if it can have more of the budget
  int32_t head_idx = -1;       // of waiting: the first that does not fit
  int32_t num_bypasses = 0;    // of that, with this step's
  int64_t best_level = std::numeric_limits<int64_t>::max();  // of its groups
  bool is_far_ahead = false;  // served much more than some other tenant
  bool done = false;          // nobody else comes
  bool is_explained = false;  // it was said why
};

// Applied in this order: preemptions, slices, admissions.
struct Decision {
  // Into View::running: every sequence of a preempted group, last first.
  std::vector<int32_t> preempted;
  // [preempted.size()], or empty: arrival of the group whose need took it. 0
  // or its own: nobody else's.
  std::vector<int64_t> preempted_for;
  std::vector<ScheduledSlice> slices;  // of sequences not preempted; decodes
                                       // before chunks
  std::vector<Admission> admissions;   // ascending waiting_idx per tenant
  std::vector<Bypass> bypasses;        // REQUIRES: one per group
  // Groups that were looked at and stay, a bounded number. Who is behind them
  // waits for the same reasons.
  std::vector<Blocked> blocked;

  // A policy's working memory, so that a step allocates nothing.
  struct Scratch {
    std::vector<uint8_t> flags;       // [running]
    std::vector<int32_t> held;        // [tenants]
    std::vector<int32_t> next;        // [running]
    std::vector<int32_t> heap;        // of tenants
    std::vector<TenantShare> shares;  // [tenants]
  } scratch;

  void Clear() {
    preempted.clear();
    preempted_for.clear();
    slices.clear();
    admissions.clear();
    bypasses.clear();
    blocked.clear();
  }
};

// Thread-compatible and without state: equal views give equal decisions.
class SchedulingPolicy {
 public:
  virtual ~SchedulingPolicy() = default;

  // Appends to an empty `decision`. The blocks that it takes fit in
  // num_free_blocks plus those of the groups that it preempts.
  virtual void Schedule(const View& view, Decision* decision) const = 0;

  // Whether it reads View::tenants. One that does not sees everybody's groups
  // in View::waiting.
  virtual bool shares_by_tenant() const { return false; }

  // Whether it takes memory back from those that run. One that never does
  // works with managers that reserve only.
  virtual bool preempts() const { return true; }
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_POLICY_H_
