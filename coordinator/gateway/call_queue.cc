// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/call_queue.h"

#include <chrono>
#include <utility>

#include "glog/logging.h"

namespace quire {

void CallQueue::Open(std::unique_ptr<grpc::ServerCompletionQueue> queue) {
  absl::MutexLock lock(&mutex_);
  CHECK(queue_ == nullptr) << "opened twice";
  queue_ = std::move(queue);
  state_ = State::kOpen;
}

void CallQueue::Close() {
  absl::MutexLock lock(&mutex_);
  if (state_ != State::kOpen) return;
  state_ = State::kClosing;
  queue_->Shutdown();
  mutex_.Await(absl::Condition(
      +[](State* state) { return *state == State::kPlain; }, &state_));
}

grpc::ServerCompletionQueue* CallQueue::queue() {
  absl::MutexLock lock(&mutex_);
  CHECK(queue_ != nullptr);
  return queue_.get();
}

void CallQueue::Await() {
  while (true) {
    grpc::ServerCompletionQueue* queue = nullptr;
    {
      const auto is_due = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return is_woken_ || state_ != State::kPlain;
      };
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&is_due));
      if (is_woken_ && !is_alarm_set_) {
        is_woken_ = false;
        return;
      }
      queue = queue_.get();
    }
    if (RunEvents(queue)) return;
    absl::MutexLock lock(&mutex_);
    state_ = State::kPlain;
  }
}

bool CallQueue::RunEvents(grpc::ServerCompletionQueue* queue) {
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) {
    if (tag != &alarm_) {
      static_cast<CallEvent*>(tag)->Happen(ok);
      continue;
    }
    absl::MutexLock lock(&mutex_);
    is_alarm_set_ = is_woken_ = false;
    return true;
  }
  return false;
}

void CallQueue::Wake() {
  absl::MutexLock lock(&mutex_);
  if (is_woken_) return;
  is_woken_ = true;
  if (state_ != State::kOpen) return;
  is_alarm_set_ = true;
  // At once: gRPC's way to bring something of one's own into a queue.
  alarm_.Set(queue_.get(), std::chrono::system_clock::time_point(), &alarm_);
}

}  // namespace quire
