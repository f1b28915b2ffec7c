// SPDX-License-Identifier: Apache-2.0
//
// A completion queue whose events happen on a router's thread, between two
// steps' outputs. So the thread that starts a step's writes hears of their
// ends too: nobody has to be woken up for a token.
#ifndef COORDINATOR_GATEWAY_CALL_QUEUE_H_
#define COORDINATOR_GATEWAY_CALL_QUEUE_H_

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/gateway/lane_gate.h"

namespace quire {

// What a tag of a completion queue points to.
class CallEvent {
 public:
  // `ok` as the queue tells it.
  virtual void Happen(bool ok) = 0;

 protected:
  ~CallEvent() = default;
};

// Thread-safe.
class CallQueue final : public LaneGate {
 public:
  // From now on events happen in Await(). REQUIRES: called at most once.
  void Open(std::unique_ptr<grpc::ServerCompletionQueue> queue);
  // Waits until all events have happened; it is a plain gate from then on.
  // REQUIRES: a thread calls Await() again and again; the queue's server has
  // shut down. No effect if it is not open.
  void Close();

  // REQUIRES: it is open.
  grpc::ServerCompletionQueue* queue();

  void Await() override;
  void Wake() override;

 private:
  enum class State { kPlain, kOpen, kClosing };

  // Lets events happen until the gate is woken. False: the queue is at its end.
  bool RunEvents(grpc::ServerCompletionQueue* queue);

  absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kPlain;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_ ABSL_GUARDED_BY(mutex_);
  bool is_woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_alarm_set_ ABSL_GUARDED_BY(mutex_) = false;  // it wakes the gate
  grpc::Alarm alarm_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CALL_QUEUE_H_
