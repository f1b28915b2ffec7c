// SPDX-License-Identifier: Apache-2.0
//
// Orca's scheduling (OSDI'22), as the PagedAttention paper runs it against
// itself (SOSP'23, section 6.1): the batch may change at every iteration,
// memory is reserved when a request comes in, so that nobody is ever preempted,
// and requests come in strictly in order.
//
//  1. Every sequence that decodes, earliest first.
//  2. What is left of prompts that were cut.
//  3. Admissions in order, until one does not fit: by slots, by the blocks it
//     reserves, or by the token budget.
//
// Orca knows no chunks: a prompt runs in one iteration. Here an iteration has a
// token budget, because workers size their buffers by it. So a prompt waits for
// an iteration with room for all of it, but the first prompt of an iteration
// takes what room there is, so that one longer than any iteration runs too.
// With --max_num_batched_tokens of max_model_len plus max_num_seqs nobody is
// ever cut.
//
// Progress: whoever runs decodes to its end and gives its reservation back, so
// the head comes in at the latest when it is alone.
#ifndef COORDINATOR_SCHEDULER_ORCA_H_
#define COORDINATOR_SCHEDULER_ORCA_H_

#include "coordinator/scheduler/policy.h"

namespace quire {

class Orca final : public SchedulingPolicy {
 public:
  void Schedule(const View& view, Decision* decision) const override;
  bool preempts() const override { return false; }
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_ORCA_H_
