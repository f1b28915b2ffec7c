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
    lanes_.push_back(std::make_unique<Lane>());
    Lane* lane = lanes_.back().get();
    lane->thread = std::thread([this, lane] { Run(lane); });
  }
}

OutputRouter::~OutputRouter() {
  for (const auto& lane : lanes_) {
    absl::MutexLock lock(&lane->mutex);
    lane->stopping = true;
  }
  for (const auto& lane : lanes_) lane->thread.join();
}

void OutputRouter::OnOutputs(std::vector<SequenceOutput> outputs) {
  if (outputs.size() == 1 && TryDeliver(&outputs[0])) return;
  // A request stays on one lane, so that its outputs stay in order.
  std::vector<std::vector<SequenceOutput>> parts(lanes_.size());
  if (lanes_.size() == 1) {
    parts[0] = std::move(outputs);
  } else {
    for (SequenceOutput& output : outputs) {
      parts[output.request.value() % lanes_.size()].push_back(
          std::move(output));
    }
  }
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (parts[i].empty()) continue;
    absl::MutexLock lock(&lanes_[i]->mutex);
    std::vector<SequenceOutput>& queue = lanes_[i]->outputs;
    queue.insert(queue.end(), std::make_move_iterator(parts[i].begin()),
                 std::make_move_iterator(parts[i].end()));
  }
}

void OutputRouter::Run(Lane* lane) {
  while (true) {
    std::vector<SequenceOutput> outputs;
    {
      absl::MutexLock lock(&lane->mutex);
      lane->mutex.Await(absl::Condition(
          +[](Lane* waiting) ABSL_EXCLUSIVE_LOCKS_REQUIRED(waiting->mutex) {
            return waiting->stopping ||
                   (!waiting->outputs.empty() && !waiting->is_delivering);
          },
          lane));
      if (lane->outputs.empty()) return;
      outputs.swap(lane->outputs);
      lane->is_delivering = true;
    }
    Deliver(std::move(outputs));
    absl::MutexLock lock(&lane->mutex);
    lane->is_delivering = false;
  }
}

bool OutputRouter::TryDeliver(SequenceOutput* output) {
  // Without one: the engine was faster than Submit, or the request is gone.
  const std::shared_ptr<OutputSink> sink = Find(output->request);
  if (sink == nullptr || !sink->is_quick()) return false;
  Lane* const lane = LaneOf(output->request);
  {
    absl::MutexLock lock(&lane->mutex);
    if (lane->is_delivering || !lane->outputs.empty()) return false;
    lane->is_delivering = true;
  }
  sink->OnOutput(std::move(*output));
  absl::MutexLock lock(&lane->mutex);
  lane->is_delivering = false;
  return true;
}

void OutputRouter::Deliver(std::vector<SequenceOutput> outputs) {
  std::vector<std::shared_ptr<OutputSink>> sinks(outputs.size());
  {
    absl::MutexLock lock(&sinks_mutex_);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const auto found = sinks_.find(outputs[i].request);
      if (found != sinks_.end()) sinks[i] = found->second;
    }
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (sinks[i] == nullptr) {
      // Either the engine was faster than Submit, or the request is gone.
      { absl::MutexLock wait(&submit_mutex_); }
      sinks[i] = Find(outputs[i].request);
    }
    if (sinks[i] != nullptr) sinks[i]->OnOutput(std::move(outputs[i]));
  }
}

std::shared_ptr<OutputSink> OutputRouter::Find(RequestKey key) {
  absl::MutexLock lock(&sinks_mutex_);
  const auto found = sinks_.find(key);
  return found == sinks_.end() ? nullptr : found->second;
}

absl::StatusOr<RequestKey> OutputRouter::Submit(
    EngineRequest request, std::shared_ptr<OutputSink> sink,
    EngineClient* engine) {
  absl::ReaderMutexLock submitting(&submit_mutex_);
  QUIRE_ASSIGN_OR_RETURN(const RequestKey key,
                         engine->Submit(std::move(request)));
  absl::MutexLock lock(&sinks_mutex_);
  sinks_.emplace(key, std::move(sink));
  return key;
}

void OutputRouter::Remove(RequestKey key) {
  std::shared_ptr<OutputSink> last;  // dropped after the lock
  absl::MutexLock lock(&sinks_mutex_);
  const auto found = sinks_.find(key);
  if (found == sinks_.end()) return;
  last = std::move(found->second);
  sinks_.erase(found);
}

}  // namespace quire
