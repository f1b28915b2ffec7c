// SPDX-License-Identifier: Apache-2.0
//
// Why a request waits. Every moment between its arrival and its first step, and
// between a preemption and the step that brings it back, has one of these.
#ifndef COORDINATOR_SCHEDULER_WAIT_REASON_H_
#define COORDINATOR_SCHEDULER_WAIT_REASON_H_

#include <cstdint>
#include <string_view>

namespace quire {

// The numbers in brackets are WaitDetail's.
enum class WaitReason : uint8_t {
  kNextStep,         // for the next decision: it has just come
  kNeedsBlocks,      // needs N free blocks, M are free for it
  kTokenBudget,      // the step's tokens are given away (N wanted)
  kNoSlot,           // needs N slots, M are free
  kHeadReserved,     // the pool is kept for another, who was passed N times
  kBehind,           // N are before it in its tenant's order
  kTenantQuota,      // needs N blocks, its tenant may take M more
  kTenantTurn,       // others' tenants have been served less
  kPreemptedBy,      // another needed its blocks; needs N, M are free
  kResultsInFlight,  // preempted, and its last tokens are not known yet
  kBatchRuns,        // static batching: the batch before it runs to its end
  kNoWorkerGroup,    // no workers are ready
  kResync,           // block tables are being restated
  kOtherAlone,       // another must run alone, as workers were lost under it
};
inline constexpr int32_t kNumWaitReasons = 14;

// What a reason's numbers are at the moment it began.
struct WaitDetail {
  WaitReason reason = WaitReason::kNextStep;
  int32_t num_needed = 0;     // N
  int32_t num_available = 0;  // M
  // The arrival number of the group that N blocks are kept for
  // (kHeadReserved) or that took the blocks (kPreemptedBy). 0: nobody.
  int64_t other_arrival = 0;
};

// As metrics label it: "needs_blocks".
constexpr std::string_view WaitReasonName(WaitReason reason) {
  constexpr std::string_view kNames[kNumWaitReasons] = {
      "next_step",     "needs_blocks",
      "token_budget",  "no_slot",
      "head_reserved", "behind",
      "tenant_quota",  "tenant_turn",
      "preempted_by",  "results_in_flight",
      "batch_runs",    "no_worker_group",
      "resync",        "other_alone"};
  return kNames[static_cast<int>(reason)];
}

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_WAIT_REASON_H_
