// SPDX-License-Identifier: Apache-2.0
//
// What snapshots of a policy's tests are made of: sequences and groups, and
// what may be said of them.
#ifndef TESTS_COORDINATOR_SCHEDULER_SNAPSHOT_PARTS_H_
#define TESTS_COORDINATOR_SCHEDULER_SNAPSHOT_PARTS_H_

#include <cstdint>

#include "coordinator/scheduler/policy.h"

namespace quire {

inline RunningSequence Exhausted(RunningSequence seq) {
  seq.max_num_tokens = seq.num_tokens;
  return seq;
}

inline RunningSequence AwaitingResult(RunningSequence seq) {
  seq.awaits_result = true;
  return seq;
}

inline WaitingGroup NotReady(WaitingGroup group) {
  group.ready = false;
  return group;
}

inline WaitingGroup OfSeqs(WaitingGroup group, int32_t num_seqs) {
  group.num_seqs = num_seqs;
  return group;
}

}  // namespace quire

#endif  // TESTS_COORDINATOR_SCHEDULER_SNAPSHOT_PARTS_H_
