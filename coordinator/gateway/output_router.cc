// SPDX-License-Identifier: Apache-2.0
#include "coordinator/gateway/output_router.h"

#include <iterator>
#include <utility>

#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {

OutputRouter::OutputRouter(int num_threads) {
  CHECK_GT(num_threads, 0);
  for (int i = 0; i < num_threads; ++i) {
    own_gates_.push_back(std::make_unique<PlainGate>());
    AddLane(own_gates_.back().get());
  }
}

OutputRouter::OutputRouter(std::vector<LaneGate*> gates) {
  CHECK(!gates.empty());
  for (LaneGate* gate : gates) AddLane(gate);
}

void OutputRouter::AddLane(LaneGate* gate) {
  lanes_.push_back(std::make_unique<Lane>());
  Lane* lane = lanes_.back().get();
  lane->gate = gate;
  lane->thread = std::thread([this, lane] { Run(lane); });
}

OutputRouter::~OutputRouter() {
  for (const auto& lane : lanes_) {
    {
      absl::MutexLock lock(&lane->mutex);
      lane->stopping = true;
    }
    lane->gate->Wake();
  }
  for (const auto& lane : lanes_) lane->thread.join();
}

OutputRouter::Route* OutputRouter::RouteOf(RequestKey key,
                                           const OutputSink* sink) {
  const auto [it, is_new] = routes_.try_emplace(key);
  if (is_new) {
    const std::optional<size_t> wanted =
        sink == nullptr ? std::nullopt : sink->lane();
    it->second.lane_idx = wanted.value_or(key.value() % lanes_.size());
  }
  return &it->second;
}

void OutputRouter::OnOutputs(std::vector<SequenceOutput> outputs) {
  if (outputs.size() == 1 && TryDeliver(&outputs[0])) return;
  std::vector<std::vector<Delivery>> parts(lanes_.size());
  {
    absl::MutexLock lock(&routes_mutex_);
    for (SequenceOutput& output : outputs) {
      const Route* route = RouteOf(output.request, /*sink=*/nullptr);
      parts[route->lane_idx].push_back({route->sink, std::move(output)});
    }
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (parts[i].empty()) continue;
    {
      absl::MutexLock lock(&lanes_[i]->mutex);
      std::vector<Delivery>& queue = lanes_[i]->queue;
      queue.insert(queue.end(), std::make_move_iterator(parts[i].begin()),
                   std::make_move_iterator(parts[i].end()));
    }
    lanes_[i]->gate->Wake();
  }
}

void OutputRouter::Run(Lane* lane) {
  while (true) {
    // Between any two, so that what else the gate lets happen does.
    lane->gate->Await();
    std::vector<Delivery> deliveries;
    {
      absl::MutexLock lock(&lane->mutex);
      if (lane->is_delivering) continue;  // who does wakes this thread
      if (lane->queue.empty() && lane->stopping) return;
      deliveries.swap(lane->queue);
      lane->is_delivering = true;
    }
    Deliver(std::move(deliveries));
    absl::MutexLock lock(&lane->mutex);
    lane->is_delivering = false;
    if (lane->queue.empty() && lane->stopping) return;
  }
}

bool OutputRouter::TryDeliver(SequenceOutput* output) {
  std::shared_ptr<OutputSink> sink;
  Lane* lane = nullptr;
  {
    absl::MutexLock lock(&routes_mutex_);
    const auto found = routes_.find(output->request);
    if (found == routes_.end()) return false;
    sink = found->second.sink;
    lane = lanes_[found->second.lane_idx].get();
  }
  if (sink == nullptr || !sink->is_quick()) return false;
  {
    absl::MutexLock lock(&lane->mutex);
    if (lane->is_delivering || !lane->queue.empty()) return false;
    lane->is_delivering = true;
  }
  sink->OnOutput(std::move(*output));
  bool is_thread_due = false;
  {
    absl::MutexLock lock(&lane->mutex);
    lane->is_delivering = false;
    is_thread_due = !lane->queue.empty() || lane->stopping;
  }
  if (is_thread_due) lane->gate->Wake();
  return true;
}

void OutputRouter::Deliver(std::vector<Delivery> deliveries) {
  for (Delivery& delivery : deliveries) {
    if (delivery.sink == nullptr) {
      delivery.sink = AwaitSink(delivery.output.request);
    }
    if (delivery.sink != nullptr) {
      delivery.sink->OnOutput(std::move(delivery.output));
    }
  }
}

std::shared_ptr<OutputSink> OutputRouter::AwaitSink(RequestKey key) {
  { absl::MutexLock wait(&submit_mutex_); }
  absl::MutexLock lock(&routes_mutex_);
  const auto found = routes_.find(key);
  if (found == routes_.end()) return nullptr;
  if (found->second.sink == nullptr) {
    routes_.erase(found);
    return nullptr;
  }
  return found->second.sink;
}

absl::StatusOr<RequestKey> OutputRouter::Submit(
    EngineRequest request, std::shared_ptr<OutputSink> sink,
    EngineClient* engine) {
  absl::ReaderMutexLock submitting(&submit_mutex_);
  QUIRE_ASSIGN_OR_RETURN(const RequestKey key,
                         engine->Submit(std::move(request)));
  absl::MutexLock lock(&routes_mutex_);
  Route* const route = RouteOf(key, sink.get());
  route->sink = std::move(sink);
  return key;
}

void OutputRouter::Remove(RequestKey key) {
  std::shared_ptr<OutputSink> last;  // dropped after the lock
  absl::MutexLock lock(&routes_mutex_);
  const auto found = routes_.find(key);
  if (found == routes_.end()) return;
  last = std::move(found->second.sink);
  routes_.erase(found);
}

}  // namespace quire
