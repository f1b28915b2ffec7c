// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/idle_times.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace quire {

bool IdleTimes::Add(double seconds) {
  if (seconds > kPauseSeconds) return false;
  const auto us = static_cast<float>(seconds * 1e6);
  if (count_ < kKept) {
    microseconds_.push_back(us);
  } else {
    microseconds_[count_ % kKept] = us;
  }
  return ++count_ % kKept == 0;
}

double IdleTimes::Quantile(double q) const {
  if (microseconds_.empty()) return 0;
  std::vector<float> sorted = microseconds_;
  const auto at =
      sorted.begin() +
      static_cast<int64_t>(q * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), at, sorted.end());
  return *at;
}

std::string IdleTimes::ToString() const {
  return absl::StrFormat(
      "idle between steps: p50 %.1f, p99 %.1f us of the last %d", Quantile(0.5),
      Quantile(0.99), microseconds_.size());
}

}  // namespace quire
