// SPDX-License-Identifier: Apache-2.0
//
// This rank's bytes of the KV cache, whichever way memory is managed.
#ifndef WORKER_KV_KV_STORE_H_
#define WORKER_KV_KV_STORE_H_

#include "absl/status/status.h"
#include "common/step_plan.h"
#include "worker/batch/slot_state.h"
#include "worker/model/model.h"

namespace quire {

// Thread-compatible; the executor thread is the sole caller.
class KvStore {
 public:
  virtual ~KvStore() = default;

  // Steps that may be on their way while another is prepared: the last ones.
  static constexpr int32_t kMaxRunning = 1;

  // Whether Prepare(plan) leaves alone what steps may use that are still on
  // their way.
  virtual bool MayPrepareAhead(const StepPlan& plan) const = 0;

  // Does what the plan says of contents and of memory, so that its slices may
  // run after what has been enqueued so far. REQUIRES: `slots` has applied the
  // plan; earlier plans have been synchronized with, or MayPrepareAhead(plan).
  virtual absl::Status Prepare(const StepPlan& plan,
                               const SlotStates& slots) = 0;

  virtual KvCache view() const = 0;
};

}  // namespace quire

#endif  // WORKER_KV_KV_STORE_H_
