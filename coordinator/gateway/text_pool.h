// SPDX-License-Identifier: Apache-2.0
//
// Threads for text work that is too long for a thread which serves others:
// encoding a long prompt.
#ifndef COORDINATOR_GATEWAY_TEXT_POOL_H_
#define COORDINATOR_GATEWAY_TEXT_POOL_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace quire {

// Thread-safe.
class TextPool {
 public:
  // REQUIRES: num_threads > 0. At most `max_queued` jobs wait.
  TextPool(int num_threads, int max_queued);
  // Runs what is queued, then stops.
  ~TextPool();

  // Runs `job` soon. False, and not run, when too many wait.
  bool TryRun(std::function<void()> job);

 private:
  void Run();

  const int max_queued_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_TEXT_POOL_H_
