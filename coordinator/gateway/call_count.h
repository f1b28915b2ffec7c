// SPDX-License-Identifier: Apache-2.0
//
// How many calls there are, those included that gRPC was asked for and that
// have not come.
#ifndef COORDINATOR_GATEWAY_CALL_COUNT_H_
#define COORDINATOR_GATEWAY_CALL_COUNT_H_

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace quire {

// Thread-safe.
class CallCount {
 private:
  struct Subtract {
    void operator()(CallCount* count) const { count->Add(-1); }
  };

 public:
  // Counts as one call while it lives; the count outlives it.
  using Share = std::unique_ptr<CallCount, Subtract>;

  Share Take() {
    Add(1);
    return Share(this);
  }

  void AwaitNone() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int64_t* num_calls) { return *num_calls == 0; }, &num_calls_));
  }

 private:
  void Add(int64_t num_calls) {
    absl::MutexLock lock(&mutex_);
    num_calls_ += num_calls;
  }

  absl::Mutex mutex_;
  int64_t num_calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CALL_COUNT_H_
