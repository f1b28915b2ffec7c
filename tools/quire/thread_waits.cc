// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/thread_waits.h"

#include <stdlib.h>

namespace quire {
namespace {

// By itself libgomp spins 300,000 times. Where the system puts two threads on
// one core, each part of a step then takes a time slice: with the demo model
// and two threads 208 ms a step, at 20,000 27 ms, at 5,000 8 ms, at 1,000
// 2.6 ms. On two cores of their own 5,000 take no longer than 300,000.
constexpr char kSpins[] = "5000";

}  // namespace

void LimitThreadSpins() {
  if (getenv("OMP_WAIT_POLICY") != nullptr) return;
  setenv("GOMP_SPINCOUNT", kSpins, /*overwrite=*/0);
}

}  // namespace quire
