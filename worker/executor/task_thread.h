// SPDX-License-Identifier: Apache-2.0
//
// The executor's thread: runs tasks one after another, in order.
#ifndef WORKER_EXECUTOR_TASK_THREAD_H_
#define WORKER_EXECUTOR_TASK_THREAD_H_

#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace quire {

// Thread-safe. One thread for the process's life, because the backend's OpenMP
// team belongs to the thread that uses it.
class TaskThread {
 public:
  // `name` is what `top -H` shows: at most 15 letters.
  explicit TaskThread(const char* name);
  // Waits for the running task and drops the others.
  ~TaskThread();

  // Dropped once Stop() was called.
  void Post(std::function<void()> task);

  // Drops what has not begun. Returns whether the thread was idle within
  // `timeout`; if not, a task is stuck and the destructor would wait for it.
  bool Stop(absl::Duration timeout);

 private:
  void Loop(const char* name);

  absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_busy_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace quire

#endif  // WORKER_EXECUTOR_TASK_THREAD_H_
