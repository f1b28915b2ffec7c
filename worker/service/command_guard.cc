// SPDX-License-Identifier: Apache-2.0
#include "worker/service/command_guard.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {

void CommandGuard::Join(Epoch coordinator_epoch, Epoch group_epoch) {
  absl::MutexLock lock(&mutex_);
  has_joined_ = true;
  coordinator_epoch_ = coordinator_epoch;
  group_epoch_ = group_epoch;
}

absl::Status CommandGuard::CheckEpochs(Epoch coordinator_epoch,
                                       Epoch group_epoch) {
  absl::MutexLock lock(&mutex_);
  return CheckEpochsLocked(coordinator_epoch, group_epoch);
}

absl::Status CommandGuard::CheckEpochsLocked(Epoch coordinator_epoch,
                                             Epoch group_epoch) {
  if (!has_joined_) {
    return absl::FailedPreconditionError("this worker has not joined yet");
  }
  if (coordinator_epoch < coordinator_epoch_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "coordinator epoch ", coordinator_epoch.value(),
        " is over: this worker obeys ", coordinator_epoch_.value()));
  }
  if (group_epoch != group_epoch_) {
    return absl::FailedPreconditionError(
        absl::StrCat("group epoch ", group_epoch.value(),
                     " is not this worker's, which is ", group_epoch_.value()));
  }
  coordinator_epoch_ = coordinator_epoch;
  return absl::OkStatus();
}

absl::Status CommandGuard::AcceptStep(const StepIdentity& identity) {
  absl::MutexLock lock(&mutex_);
  QUIRE_RETURN_IF_ERROR(
      CheckEpochsLocked(identity.coordinator_epoch, identity.group_epoch));
  const StepId expected(last_step_.value() + 1);
  if (identity.step_id != expected) {
    return absl::FailedPreconditionError(
        absl::StrCat("step ", identity.step_id.value(), " came where ",
                     expected.value(), " was due"));
  }
  last_step_ = expected;
  return absl::OkStatus();
}

}  // namespace quire
