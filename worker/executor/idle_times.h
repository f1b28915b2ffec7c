// SPDX-License-Identifier: Apache-2.0
//
// How long a device had nothing to do between one step and the next.
#ifndef WORKER_EXECUTOR_IDLE_TIMES_H_
#define WORKER_EXECUTOR_IDLE_TIMES_H_

#include <cstdint>
#include <string>
#include <vector>

namespace quire {

// Remembers the last kKept. Thread-compatible; allocates at creation.
class IdleTimes {
 public:
  static constexpr int64_t kKept = 1024;
  // Longer ones are pauses: nobody wanted anything.
  static constexpr double kPauseSeconds = 0.1;

  IdleTimes() { microseconds_.reserve(kKept); }

  // Whether another kKept are full, which is worth a line in a log.
  bool Add(double seconds);
  int64_t count() const { return count_; }
  // The q-quantile of what is remembered, in microseconds; 0 if nothing is.
  double Quantile(double q) const;
  // "idle between steps: p50 4.1, p99 18.0 us of the last 1024"
  std::string ToString() const;

 private:
  std::vector<float> microseconds_;
  int64_t count_ = 0;
};

}  // namespace quire

#endif  // WORKER_EXECUTOR_IDLE_TIMES_H_
