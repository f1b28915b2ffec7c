// SPDX-License-Identifier: Apache-2.0
//
// Notices a step that takes far longer than steps do: a hung kernel or
// collective leaves the stream open and heartbeats alive, and only the missing
// answer tells.
#ifndef COORDINATOR_DISPATCH_STEP_WATCHDOG_H_
#define COORDINATOR_DISPATCH_STEP_WATCHDOG_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "absl/time/time.h"
#include "common/ids.h"

namespace quire {

// Thread-compatible.
class StepWatchdog {
 public:
  struct Options {
    absl::Duration least = absl::Seconds(2);
    absl::Duration most = absl::Seconds(30);
    // Until `num_first_steps` are done: first steps touch memory and tune.
    absl::Duration first = absl::Seconds(60);
    int num_first_steps = 8;
    // As profiled: a limit may never come near an honest largest step.
    absl::Duration largest_step = absl::ZeroDuration();
    // Replaces all of the above when positive.
    absl::Duration fixed = absl::ZeroDuration();
  };

  explicit StepWatchdog(const Options& options) : options_(options) {}

  void OnSent(StepId step_id, absl::Time now);
  // REQUIRES: steps are done in the order of sending.
  void OnDone(absl::Time now);

  // Whether the oldest open step has run for longer than Limit(), as it had
  // half a second ago or earlier: when this process has stood still, its answer
  // may be there and not yet read.
  bool CheckExpired(absl::Time now);

  // max(least, 10 x the moving average of steps, 4 x the largest step), at
  // most `most` unless the largest step asks for more.
  absl::Duration Limit() const;

  StepId oldest_step() const {
    return open_.empty() ? StepId() : open_.front().step_id;
  }

 private:
  struct Open {
    StepId step_id;
    // When it could begin: it was there, and the one before was done.
    absl::Time start;
  };

  const Options options_;
  std::deque<Open> open_;
  int64_t num_done_ = 0;
  absl::Duration average_ = absl::ZeroDuration();
  std::optional<absl::Time> expired_at_;  // of the oldest, when first seen
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_STEP_WATCHDOG_H_
