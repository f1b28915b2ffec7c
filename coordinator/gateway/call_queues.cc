// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/call_queues.h"

#include "glog/logging.h"

namespace quire {
namespace {

void RunEvents(grpc::ServerCompletionQueue* queue) {
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) static_cast<CallEvent*>(tag)->Happen(ok);
}

}  // namespace

CallQueues::CallQueues(int num_lanes, int num_arrival_threads)
    : num_arrival_threads_(num_arrival_threads) {
  CHECK_GT(num_lanes, 0);
  CHECK_GT(num_arrival_threads, 0);
  for (int i = 0; i < num_lanes; ++i) {
    lanes_.push_back(std::make_unique<Lane>());
  }
}

CallQueues::~CallQueues() {
  for (const auto& lane : lanes_) CHECK(lane->threads.empty());
}

std::vector<LaneGate*> CallQueues::gates() {
  std::vector<LaneGate*> gates;
  for (const auto& lane : lanes_) gates.push_back(&lane->calls);
  return gates;
}

void CallQueues::AddTo(grpc::ServerBuilder* builder) {
  for (const auto& lane : lanes_) {
    lane->calls.Open(builder->AddCompletionQueue());
    lane->arrivals = builder->AddCompletionQueue();
    for (int i = 0; i < num_arrival_threads_; ++i) {
      lane->threads.emplace_back(
          [queue = lane->arrivals.get()] { RunEvents(queue); });
    }
  }
}

void CallQueues::Close() {
  count_.AwaitNone();
  for (const auto& lane : lanes_) {
    if (lane->threads.empty()) continue;
    lane->arrivals->Shutdown();
    for (std::thread& thread : lane->threads) thread.join();
    lane->threads.clear();
  }
  for (const auto& lane : lanes_) lane->calls.Close();
}

grpc::ServerCompletionQueue* CallQueues::calls(size_t lane) {
  return lanes_[lane]->calls.queue();
}

grpc::ServerCompletionQueue* CallQueues::arrivals(size_t lane) {
  return lanes_[lane]->arrivals.get();
}

}  // namespace quire
