// SPDX-License-Identifier: Apache-2.0
#include "common/lock_order.h"

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

TEST(LockOrderTest, NoOrderEndsTheProcess) {
  EndLockOrderChecks();
  LockInBothOrders();
}

}  // namespace
}  // namespace quire
