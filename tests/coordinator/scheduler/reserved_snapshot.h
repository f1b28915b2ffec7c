// SPDX-License-Identifier: Apache-2.0
//
// Snapshots for policies over reserved memory: whoever runs has all the blocks
// it will ever need.
#ifndef TESTS_COORDINATOR_SCHEDULER_RESERVED_SNAPSHOT_H_
#define TESTS_COORDINATOR_SCHEDULER_RESERVED_SNAPSHOT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/scheduler/policy.h"
#include "tests/coordinator/scheduler/snapshot_parts.h"

namespace quire {

// Has `num_tokens` tokens, the last of which is not computed.
inline RunningSequence Decoding(int64_t arrival, int32_t num_tokens) {
  RunningSequence seq;
  seq.arrival = arrival;
  seq.slot = SlotId(static_cast<int32_t>(arrival));
  seq.num_tokens = num_tokens;
  seq.num_computed_tokens = num_tokens - 1;
  seq.num_prefill_tokens = num_tokens - 1;
  seq.max_num_tokens = 1000;
  seq.num_blocks = 100;
  seq.num_private_blocks = 100;
  return seq;
}

inline RunningSequence Prefilling(int64_t arrival, int32_t num_tokens,
                                  int32_t num_computed) {
  RunningSequence seq = Decoding(arrival, num_tokens);
  seq.num_prefill_tokens = num_tokens;
  seq.num_computed_tokens = num_computed;
  return seq;
}

inline WaitingGroup Waiting(int64_t arrival, int32_t num_tokens,
                            int32_t num_wanted_blocks = 10) {
  WaitingGroup group;
  group.arrival = arrival;
  group.key = RequestKey(arrival);
  group.num_tokens = num_tokens;
  group.num_wanted_blocks = num_wanted_blocks;
  return group;
}

struct Snapshot {
  std::string name;
  std::vector<RunningSequence> running = {};
  std::vector<WaitingGroup> waiting = {};
  int32_t num_free_blocks = 100;
  int32_t num_free_slots = 10;
  int32_t budget = 100;
  bool force_preemption = false;

  std::vector<ScheduledSlice> slices = {};
  std::vector<Admission> admissions = {};
};

// What `policy` makes of the snapshot.
inline Decision Decide(const SchedulingPolicy& policy,
                       const Snapshot& snapshot) {
  View view;
  view.running = snapshot.running;
  view.waiting = snapshot.waiting;
  view.num_free_blocks = snapshot.num_free_blocks;
  view.num_free_slots = snapshot.num_free_slots;
  view.max_num_batched_tokens = snapshot.budget;
  view.force_preemption = snapshot.force_preemption;
  Decision decision;
  policy.Schedule(view, &decision);
  return decision;
}

}  // namespace quire

#endif  // TESTS_COORDINATOR_SCHEDULER_RESERVED_SNAPSHOT_H_
