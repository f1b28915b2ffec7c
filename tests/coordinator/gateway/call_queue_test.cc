// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/call_queue.h"

#include <grpcpp/alarm.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "gtest/gtest.h"
#include "tests/coordinator/gateway/counted_event.h"

namespace quire {
namespace {

// A gate's thread, which counts how often it was let through.
class Waiter {
 public:
  explicit Waiter(CallQueue* gate)
      : gate_(gate), thread_([this] {
          while (!stopping_) {
            gate_->Await();
            passes_.Happen(true);
          }
        }) {}
  ~Waiter() {
    if (thread_.joinable()) Stop();
  }
  // Wakes the gate once more.
  void Stop() {
    stopping_ = true;
    gate_->Wake();
    thread_.join();
  }
  std::thread::id id() const { return thread_.get_id(); }
  void AwaitPasses(int count) { passes_.Await(count); }
  int num_passes() { return passes_.count(); }

 private:
  CallQueue* const gate_;
  std::atomic<bool> stopping_ = false;
  CountedEvent passes_;
  std::thread thread_;
};

class CallQueueTest : public testing::Test {
 protected:
  void Open() {
    grpc::ServerBuilder builder;
    queue_.Open(builder.AddCompletionQueue());
    server_ = builder.BuildAndStart();
  }
  void Close() {
    server_->Shutdown();
    queue_.Close();
  }

  CallQueue queue_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CallQueueTest, IsAPlainGateBeforeItIsOpenAndOnceItIsClosed) {
  Waiter waiter(&queue_);
  queue_.Wake();
  waiter.AwaitPasses(1);
  Open();
  queue_.Wake();
  waiter.AwaitPasses(2);
  Close();
  queue_.Wake();
  waiter.AwaitPasses(3);
  queue_.Close();  // again
  EXPECT_EQ(waiter.num_passes(), 3);
}

TEST_F(CallQueueTest, ManyWakesAreOne) {
  Open();
  for (int i = 0; i < 5; ++i) queue_.Wake();
  Waiter waiter(&queue_);
  waiter.AwaitPasses(1);
  queue_.Wake();
  waiter.AwaitPasses(2);
  Close();
  waiter.Stop();
  EXPECT_LE(waiter.num_passes(), 3);
}

TEST_F(CallQueueTest, EventsHappenOnTheThreadThatWaits) {
  Open();
  Waiter waiter(&queue_);
  CountedEvent event;
  for (int i = 1; i <= 3; ++i) {
    grpc::Alarm alarm;
    alarm.Set(queue_.queue(), std::chrono::system_clock::time_point(),
              static_cast<CallEvent*>(&event));
    EXPECT_EQ(event.Await(i), waiter.id());
  }
  Close();
}

TEST_F(CallQueueTest, CloseWaitsForTheEventsThatAreStillToCome) {
  Open();
  Waiter waiter(&queue_);
  CountedEvent event;
  grpc::Alarm alarm;
  alarm.Set(queue_.queue(),
            std::chrono::system_clock::now() + std::chrono::hours(1),
            static_cast<CallEvent*>(&event));
  std::thread closer([this] { Close(); });
  alarm.Cancel();
  closer.join();
  EXPECT_EQ(event.count(), 1);
}

TEST_F(CallQueueTest, AWakeIsNotLostWhileItCloses) {
  for (int round = 0; round < 20; ++round) {
    CallQueue queue;
    grpc::ServerBuilder builder;
    queue.Open(builder.AddCompletionQueue());
    auto server = builder.BuildAndStart();
    Waiter waiter(&queue);
    std::thread waker([&] { queue.Wake(); });
    server->Shutdown();
    queue.Close();
    waker.join();
    waiter.AwaitPasses(1);
    EXPECT_EQ(waiter.num_passes(), 1);
  }
}

}  // namespace
}  // namespace quire
