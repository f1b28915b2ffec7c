// SPDX-License-Identifier: Apache-2.0
//
// Abseil's check of the order in which mutexes are locked.
#ifndef COMMON_LOCK_ORDER_H_
#define COMMON_LOCK_ORDER_H_

namespace quire {

// From now on nobody checks it in this process. Distributions build Abseil with
// the check, for which every lock, of gRPC's mutexes too, meets a global one;
// it ends the process at an order that might lead to a deadlock. That is for
// tests: a program that serves calls this first.
void EndLockOrderChecks();

}  // namespace quire

#endif  // COMMON_LOCK_ORDER_H_
