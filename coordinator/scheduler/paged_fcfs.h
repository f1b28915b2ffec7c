// SPDX-License-Identifier: Apache-2.0
//
// First come, first served over paged memory, at every iteration (Orca,
// OSDI'22; PagedAttention, SOSP'23, section 4.5; chunked prefill as in
// Sarathi-Serve, OSDI'24):
//
//  1. Decodes, earliest first. One that cannot grow preempts the last arrived
//     group, whole, until it can, or is that group itself.
//  2. Chunks of prompts already begun, under what is left of the token budget.
//  3. Admissions, if nobody was preempted: a group comes in when the pool can
//     hold all of its known tokens beside what running prompts still need, and
//     keep the watermark. A head that does not fit is passed by others that
//     do, max_bypasses times; then the pool is kept for it. A head that was
//     preempted is never passed.
//  4. Prompts' parts are cut to a whole multiple of tokens: round_tokens.h.
//
// With several tenants the same, shared among them: fair_pass.h.
//
// Progress: the earliest group is preempted by nobody, and a waiting head is
// passed a bounded number of times, so whoever fits alone finishes.
#ifndef COORDINATOR_SCHEDULER_PAGED_FCFS_H_
#define COORDINATOR_SCHEDULER_PAGED_FCFS_H_

#include <cstdint>

#include "coordinator/scheduler/policy.h"

namespace quire {

struct PagedFcfsOptions {
  int32_t max_bypasses = 8;    // of one head
  int32_t bypass_window = 16;  // groups behind the head that may pass it
};

class PagedFcfs final : public SchedulingPolicy {
 public:
  explicit PagedFcfs(const PagedFcfsOptions& options = {});

  void Schedule(const View& view, Decision* decision) const override;
  bool shares_by_tenant() const override { return true; }

 private:
  const PagedFcfsOptions options_;
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_PAGED_FCFS_H_
