// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/call_queues.h"

#include <grpcpp/alarm.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <chrono>
#include <memory>
#include <thread>

#include "absl/synchronization/notification.h"
#include "coordinator/gateway/output_router.h"
#include "gtest/gtest.h"
#include "tests/coordinator/gateway/counted_event.h"

namespace quire {
namespace {

TEST(CallQueuesTest, TakeWhatIsStartedUntilTheLastCallIsGone) {
  CallQueues queues(/*num_lanes=*/2, /*num_arrival_threads=*/2);
  const OutputRouter router(queues.gates());
  grpc::ServerBuilder builder;
  queues.AddTo(&builder);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  CallCount::Share call = queues.TakeShare();
  CallCount::Share other = queues.TakeShare();
  server->Shutdown();
  absl::Notification is_closed;
  std::thread closer([&] {
    queues.Close();
    is_closed.Notify();
  });
  other = nullptr;
  CountedEvent event;
  int count = 0;
  for (size_t lane = 0; lane < queues.num_lanes(); ++lane) {
    for (grpc::ServerCompletionQueue* queue :
         {queues.calls(lane), queues.arrivals(lane)}) {
      grpc::Alarm alarm;
      alarm.Set(queue, std::chrono::system_clock::time_point(),
                static_cast<CallEvent*>(&event));
      event.Await(++count);
    }
  }
  EXPECT_FALSE(is_closed.HasBeenNotified());
  call = nullptr;
  closer.join();
  queues.Close();  // again
}

}  // namespace
}  // namespace quire
