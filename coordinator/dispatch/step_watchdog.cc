// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/step_watchdog.h"

#include <algorithm>

#include "glog/logging.h"

namespace quire {
namespace {

constexpr double kAverageWeight = 0.1;  // of the newest step
constexpr int kAverageFactor = 10;
constexpr int kLargestStepFactor = 4;
constexpr absl::Duration kSecondLook = absl::Milliseconds(500);

}  // namespace

void StepWatchdog::OnSent(StepId step_id, absl::Time now) {
  open_.push_back({step_id, now});
}

void StepWatchdog::OnDone(absl::Time now) {
  CHECK(!open_.empty());
  const absl::Duration duration = now - open_.front().start;
  average_ = num_done_ == 0 ? duration
                            : average_ + (duration - average_) * kAverageWeight;
  ++num_done_;
  open_.pop_front();
  expired_at_.reset();
  if (!open_.empty()) {
    open_.front().start = std::max(open_.front().start, now);
  }
}

absl::Duration StepWatchdog::Limit() const {
  if (options_.fixed > absl::ZeroDuration()) return options_.fixed;
  const absl::Duration honest =
      std::max(options_.least, options_.largest_step * kLargestStepFactor);
  absl::Duration limit =
      std::max(honest, std::min(options_.most, average_ * kAverageFactor));
  if (num_done_ < options_.num_first_steps) {
    limit = std::max(limit, options_.first);
  }
  return limit;
}

bool StepWatchdog::CheckExpired(absl::Time now) {
  if (open_.empty() || now - open_.front().start <= Limit()) return false;
  if (!expired_at_.has_value()) expired_at_ = now;
  return now - *expired_at_ >= kSecondLook;
}

}  // namespace quire
