// SPDX-License-Identifier: Apache-2.0
#include "common/lock_order.h"

#include <cstdlib>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// One after the other, as a check would see them from two threads.
void LockInBothOrders() {
  absl::Mutex a;
  absl::Mutex b;
  {
    absl::MutexLock first(&a);
    absl::MutexLock second(&b);
  }
  absl::MutexLock first(&b);
  absl::MutexLock second(&a);
}

// Whether this Abseil checks at all was its builder's choice, which the first
// of the two shows; the programs of this repository are to live either way.
TEST(LockOrderDeathTest, NoOrderEndsTheProcess) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kAbort);
  EXPECT_DEATH(LockInBothOrders(), "deadlock");
  EXPECT_EXIT(
      {
        EndLockOrderChecks();
        LockInBothOrders();
        std::exit(7);
      },
      testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace quire
