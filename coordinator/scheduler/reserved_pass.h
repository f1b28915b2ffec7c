// SPDX-License-Identifier: Apache-2.0
//
// The parts of a decision over memory that is reserved at admission: growth
// takes no blocks, and nobody is preempted. Policies differ by which part they
// take when.
#ifndef COORDINATOR_SCHEDULER_RESERVED_PASS_H_
#define COORDINATOR_SCHEDULER_RESERVED_PASS_H_

#include <cstdint>

#include "coordinator/scheduler/policy.h"

namespace quire {

// One Schedule() call's counters. Borrows the view and the decision.
class ReservedPass {
 public:
  ReservedPass(const View& view, Decision* decision)
      : view_(view),
        decision_(*decision),
        budget_(view.max_num_batched_tokens) {}

  // One token for each that decodes, earliest first, as the budget allows.
  void ScheduleDecodes();

  // What is left of prompts that are partly computed, earliest first.
  void ScheduleChunks();

  // Those that wait, in order, until one does not fit. A prompt comes in whole,
  // but for the first that the step computes.
  void Admit();

 private:
  const View& view_;
  Decision& decision_;
  int32_t budget_;  // tokens
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_RESERVED_PASS_H_
