// SPDX-License-Identifier: Apache-2.0
//
// An event of a completion queue that a test waits for.
#ifndef TESTS_COORDINATOR_GATEWAY_COUNTED_EVENT_H_
#define TESTS_COORDINATOR_GATEWAY_COUNTED_EVENT_H_

#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/gateway/call_queue.h"

namespace quire {

// Counts how often it has happened. Thread-safe.
class CountedEvent final : public CallEvent {
 public:
  void Happen(bool) override {
    absl::MutexLock lock(&mutex_);
    ++count_;
    thread_ = std::this_thread::get_id();
  }

  int count() {
    absl::MutexLock lock(&mutex_);
    return count_;
  }

  // Waits until it has happened so often: the thread where it did so last.
  std::thread::id Await(int count) {
    const auto reached = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return count_ >= count;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&reached));
    return thread_;
  }

 private:
  absl::Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread::id thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_GATEWAY_COUNTED_EVENT_H_
