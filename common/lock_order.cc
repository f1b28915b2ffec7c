// SPDX-License-Identifier: Apache-2.0
#include "common/lock_order.h"

#include "absl/synchronization/mutex.h"

namespace quire {

void EndLockOrderChecks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace quire
