// SPDX-License-Identifier: Apache-2.0
//
// Whose commands this worker obeys, and which step comes next.
#ifndef WORKER_SERVICE_COMMAND_GUARD_H_
#define WORKER_SERVICE_COMMAND_GUARD_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/step_plan.h"

namespace quire {

// Thread-safe. Every refusal is FailedPrecondition and says what was expected.
class CommandGuard {
 public:
  // This worker's epochs, as the coordinator gave them. Before that every
  // command is refused.
  void Join(Epoch coordinator_epoch, Epoch group_epoch);

  // Refuses a coordinator that an other one has replaced, and another group
  // epoch. A newer coordinator is obeyed from now on.
  absl::Status CheckEpochs(Epoch coordinator_epoch, Epoch group_epoch);

  // Also refuses any step but the last accepted one plus one, so that a lost,
  // repeated or late step never runs; an accepted step counts.
  absl::Status AcceptStep(const StepIdentity& identity);

 private:
  absl::Status CheckEpochsLocked(Epoch coordinator_epoch, Epoch group_epoch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  bool has_joined_ ABSL_GUARDED_BY(mutex_) = false;
  Epoch coordinator_epoch_ ABSL_GUARDED_BY(mutex_);
  Epoch group_epoch_ ABSL_GUARDED_BY(mutex_);
  StepId last_step_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // WORKER_SERVICE_COMMAND_GUARD_H_
