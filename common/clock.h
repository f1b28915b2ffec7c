// SPDX-License-Identifier: Apache-2.0
//
// Time, injected. Product code never asks the system for it directly, so tests
// and the simulator decide when time passes.
#ifndef COMMON_CLOCK_H_
#define COMMON_CLOCK_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace quire {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Never goes backwards: a jump of the wall clock does not show.
  virtual absl::Time Now() const = 0;

  // Waits on `condition` (`mu` held) until it is true or `deadline` passes.
  // Returns whether it is true.
  virtual bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                          absl::Time deadline)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) = 0;
};

// The machine's monotonic clock, shown as a time of day fixed at start.
class RealClock final : public Clock {
 public:
  RealClock();
  absl::Time Now() const override;
  bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                  absl::Time deadline) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);

 private:
  absl::Time wall_start_;
  absl::Duration monotonic_start_;
};

// Stands still until told. AwaitUntil returns once Advance has passed the
// deadline or the condition holds.
class SimulatedClock final : public Clock {
 public:
  explicit SimulatedClock(absl::Time start = absl::UnixEpoch());
  absl::Time Now() const override;
  bool AwaitUntil(absl::Mutex* mu, const absl::Condition& condition,
                  absl::Time deadline) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu);
  void Advance(absl::Duration duration);

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // COMMON_CLOCK_H_
