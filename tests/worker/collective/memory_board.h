// SPDX-License-Identifier: Apache-2.0
//
// A KeyBoard for ranks that are threads of one test.
#ifndef TESTS_WORKER_COLLECTIVE_MEMORY_BOARD_H_
#define TESTS_WORKER_COLLECTIVE_MEMORY_BOARD_H_

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "worker/collective/key_board.h"

namespace quire {

class MemoryBoard final : public KeyBoard {
 public:
  absl::Status Put(const std::string& key, const std::string& value) override {
    absl::MutexLock lock(&mutex_);
    values_[key] = value;
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> Get(
      absl::Span<const std::string> keys, absl::Duration timeout) override {
    absl::MutexLock lock(&mutex_);
    const auto all_there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      for (const std::string& key : keys) {
        if (values_.count(key) == 0) return false;
      }
      return true;
    };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&all_there), timeout)) {
      return absl::DeadlineExceededError("a key is missing");
    }
    std::vector<std::string> values;
    for (const std::string& key : keys) values.push_back(values_[key]);
    return values;
  }

 private:
  absl::Mutex mutex_;
  std::map<std::string, std::string> values_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace quire

#endif  // TESTS_WORKER_COLLECTIVE_MEMORY_BOARD_H_
