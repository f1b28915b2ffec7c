// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/text_pool.h"

#include <utility>

#include "glog/logging.h"

namespace quire {

TextPool::TextPool(int num_threads, int max_queued) : max_queued_(max_queued) {
  CHECK_GT(num_threads, 0);
  for (int i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

TextPool::~TextPool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

bool TextPool::TryRun(std::function<void()> job) {
  absl::MutexLock lock(&mutex_);
  if (static_cast<int>(jobs_.size()) >= max_queued_) return false;
  jobs_.push_back(std::move(job));
  return true;
}

void TextPool::Run() {
  while (true) {
    std::function<void()> job;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(
          +[](TextPool* self) ABSL_EXCLUSIVE_LOCKS_REQUIRED(self->mutex_) {
            return self->stopping_ || !self->jobs_.empty();
          },
          this));
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace quire
