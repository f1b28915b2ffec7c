// SPDX-License-Identifier: Apache-2.0
//
// What one iteration computes, decided from a snapshot. A policy is a pure
// function: no clock, no RPC, no allocation of blocks, no memory of its own. It
// counts blocks by the arithmetic of coordinator/kv/kv_manager.h; the engine
// then asks the KV manager for them.
#ifndef COORDINATOR_SCHEDULER_POLICY_H_
#define COORDINATOR_SCHEDULER_POLICY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"

namespace quire {

// A sequence that holds a slot. Lengths count tokens in flight (planned in
// steps whose results are not known yet) as if they were there.
struct RunningSequence {
  int64_t arrival = 0;   // of its group, which siblings share: the group's name
  int32_t priority = 0;  // the lower goes first
  SlotId slot;
  int32_t num_tokens = 0;  // prompt and outputs
  int32_t num_computed_tokens = 0;
  // Known when it was admitted. It is prefilled up to here, then decodes.
  int32_t num_prefill_tokens = 0;
  int32_t max_num_tokens = 0;  // no step is planned once it is this long
  int32_t num_blocks = 0;      // in its table
  // That come back to the pool if its whole group is released.
  int32_t num_private_blocks = 0;
  bool shares_last_block = false;  // the next write copies a block first
  bool awaits_result = false;      // may not be planned before the last result

  bool is_prefill() const { return num_computed_tokens < num_prefill_tokens; }
  bool is_exhausted() const { return num_tokens >= max_num_tokens; }
};

// A sequence group that holds nothing.
struct WaitingGroup {
  int64_t arrival = 0;
  int32_t priority = 0;
  RequestKey key;
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
};

// A snapshot. The spans live as long as the call.
struct View {
  // By (priority, arrival); siblings are adjacent.
  absl::Span<const RunningSequence> running;
  // By (priority, arrival).
  absl::Span<const WaitingGroup> waiting;
  int32_t block_size = 16;
  int32_t num_free_blocks = 0;   // for the taking: free and cached
  int32_t watermark_blocks = 0;  // left free by an admission, if others run
  int32_t num_free_slots = 0;
  int32_t max_num_batched_tokens = 0;  // token budget of the step
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
  int32_t waiting_idx = 0;  // into View::waiting
  int32_t num_tokens = 0;   // that this step computes

  friend bool operator==(const Admission&, const Admission&) = default;
};

// Applied in this order: preemptions, slices, admissions.
struct Decision {
  // Into View::running: every sequence of a preempted group, last first.
  std::vector<int32_t> preempted;
  std::vector<ScheduledSlice> slices;  // of sequences not preempted; decodes
                                       // before chunks
  std::vector<Admission> admissions;   // ascending waiting_idx

  void Clear() {
    preempted.clear();
    slices.clear();
    admissions.clear();
  }
};

// Thread-compatible and without state: equal views give equal decisions.
class SchedulingPolicy {
 public:
  virtual ~SchedulingPolicy() = default;

  // Appends to an empty `decision`. The blocks that it takes fit in
  // num_free_blocks plus those of the groups that it preempts.
  virtual void Schedule(const View& view, Decision* decision) const = 0;

  // Whether it takes memory back from those that run. One that never does
  // works with managers that reserve only.
  virtual bool preempts() const { return true; }
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_POLICY_H_
