// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/worker_life.h"

#include <algorithm>

#include "glog/logging.h"

namespace quire {
namespace {

constexpr int kFewRestarts = 5;
constexpr absl::Duration kLongLife = absl::Minutes(10);
constexpr absl::Duration kFirstDelay = absl::Seconds(1);
constexpr absl::Duration kLongestDelay = absl::Minutes(1);
constexpr int kMaxDoublings = 6;  // to the longest delay

absl::Duration Delay(int num_restarts) {
  if (num_restarts == 0) return absl::ZeroDuration();
  const int num_doublings = std::min(num_restarts - 1, kMaxDoublings);
  return std::min(kLongestDelay, kFirstDelay * (1 << num_doublings));
}

}  // namespace

void WorkerLife::Dismiss(absl::Time deadline) {
  if (!is_over()) deadline_ = deadline;
}

bool WorkerLife::TakeOverdue(absl::Time now) {
  if (!deadline_.has_value() || now < *deadline_) return false;
  deadline_.reset();
  return true;
}

void WorkerLife::End(Restarts restarts, absl::Time now) {
  CHECK(!is_over());
  deadline_.reset();
  if (now - begun_ >= kLongLife) num_restarts_ = 0;
  is_lost_ =
      restarts == Restarts::kNever ||
      (restarts == Restarts::kAFewTimes && num_restarts_ == kFewRestarts);
  if (!is_lost_) restart_at_ = now + Delay(num_restarts_);
}

void WorkerLife::Begin(absl::Time now) {
  CHECK(restart_at_.has_value());
  restart_at_.reset();
  ++num_restarts_;
  begun_ = now;
}

}  // namespace quire
