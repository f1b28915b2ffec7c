// SPDX-License-Identifier: Apache-2.0
//
// Where a router's thread waits for outputs.
#ifndef COORDINATOR_GATEWAY_LANE_GATE_H_
#define COORDINATOR_GATEWAY_LANE_GATE_H_

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace quire {

// Thread-safe.
class LaneGate {
 public:
  virtual ~LaneGate() = default;

  // Returns when Wake() has been called since it last returned, however often.
  // One thread's.
  virtual void Await() = 0;
  virtual void Wake() = 0;
};

// Nothing else happens while its thread waits.
class PlainGate final : public LaneGate {
 public:
  void Await() override {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_woken_));
    is_woken_ = false;
  }
  void Wake() override {
    absl::MutexLock lock(&mutex_);
    is_woken_ = true;
  }

 private:
  absl::Mutex mutex_;
  bool is_woken_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_LANE_GATE_H_
