// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include <time.h>

namespace quire {
namespace {

// How often a waiter looks at simulated time. Only tests wait on it.
constexpr absl::Duration kSimulatedPoll = absl::Milliseconds(1);

absl::Duration Monotonic() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

}  // namespace

RealClock::RealClock()
    : wall_start_(absl::Now()), monotonic_start_(Monotonic()) {}

absl::Time RealClock::Now() const {
  return wall_start_ + (Monotonic() - monotonic_start_);
}

bool RealClock::AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                           absl::Time deadline) {
  return mu->AwaitWithTimeout(condition, deadline - Now());
}

SimulatedClock::SimulatedClock(absl::Time start) : now_(start) {}

absl::Time SimulatedClock::Now() const {
  absl::MutexLock lock(&mutex_);
  return now_;
}

bool SimulatedClock::AwaitUntil(absl::Mutex* mu,
                                const absl::Condition& condition,
                                absl::Time deadline) {
  while (Now() < deadline) {
    if (mu->AwaitWithTimeout(condition, kSimulatedPoll)) return true;
  }
  return condition.Eval();
}

void SimulatedClock::Advance(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  now_ += duration;
}

}  // namespace quire
