// SPDX-License-Identifier: Apache-2.0
//
// Keeps what a dispatcher says, in order, for tests to wait for.
#ifndef TESTS_COORDINATOR_DISPATCH_RECORDING_LISTENER_H_
#define TESTS_COORDINATOR_DISPATCH_RECORDING_LISTENER_H_

#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/dispatch/dispatcher.h"

namespace quire {

// Thread-safe.
class RecordingListener final : public DispatchListener {
 public:
  void OnGroupReady(const GroupReady& group) override {
    Record(absl::StrCat("ready ", group.group_epoch.value()));
  }
  void OnStepResult(StepResult result) override {
    absl::MutexLock lock(&mutex_);
    events_.push_back(absl::StrCat("step ", result.identity.step_id.value()));
    results_.push_back(std::move(result));
    result_threads_.push_back(std::this_thread::get_id());
  }
  void OnGroupLost(Epoch group_epoch, const absl::Status& cause) override {
    absl::MutexLock lock(&mutex_);
    events_.push_back(absl::StrCat("lost ", group_epoch.value()));
    causes_.push_back(cause);
  }

  // Waits until there are this many events; all of them.
  std::vector<std::string> Await(size_t num_events) const {
    const auto enough = [this, num_events]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                            mutex_) { return events_.size() >= num_events; };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&enough));
    return events_;
  }
  std::vector<StepResult> results() const {
    absl::MutexLock lock(&mutex_);
    return results_;
  }
  // Those that called, result by result.
  std::vector<std::thread::id> result_threads() const {
    absl::MutexLock lock(&mutex_);
    return result_threads_;
  }
  std::vector<absl::Status> causes() const {
    absl::MutexLock lock(&mutex_);
    return causes_;
  }

 private:
  void Record(std::string event) {
    absl::MutexLock lock(&mutex_);
    events_.push_back(std::move(event));
  }

  mutable absl::Mutex mutex_;
  std::vector<std::string> events_ ABSL_GUARDED_BY(mutex_);
  std::vector<StepResult> results_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread::id> result_threads_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> causes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // TESTS_COORDINATOR_DISPATCH_RECORDING_LISTENER_H_
