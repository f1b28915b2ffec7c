// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/task_thread.h"

#include <pthread.h>

#include <utility>

namespace quire {

TaskThread::TaskThread(const char* name)
    : thread_([this, name] { Loop(name); }) {}

TaskThread::~TaskThread() {
  Stop(absl::InfiniteDuration());
  thread_.join();
}

void TaskThread::Post(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (!is_stopped_) tasks_.push_back(std::move(task));
}

bool TaskThread::Stop(absl::Duration timeout) {
  std::deque<std::function<void()>> dropped;  // destroyed without the lock
  absl::MutexLock lock(&mutex_);
  is_stopped_ = true;
  dropped.swap(tasks_);
  const auto is_idle = [this]()
                           ABSL_NO_THREAD_SAFETY_ANALYSIS { return !is_busy_; };
  return mutex_.AwaitWithTimeout(absl::Condition(&is_idle), timeout);
}

void TaskThread::Loop(const char* name) {
  pthread_setname_np(pthread_self(), name);
  const auto has_work = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return is_stopped_ || !tasks_.empty();
  };
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_);
      is_busy_ = false;
      mutex_.Await(absl::Condition(&has_work));
      if (is_stopped_) return;
      is_busy_ = true;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace quire
