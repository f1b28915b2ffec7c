// SPDX-License-Identifier: Apache-2.0
//
// Takes each step's outputs off the engine thread and hands them to the
// requests that wait for them, on threads of its own; but what comes alone, and
// is quickly done, at once.
#ifndef COORDINATOR_GATEWAY_OUTPUT_ROUTER_H_
#define COORDINATOR_GATEWAY_OUTPUT_ROUTER_H_

#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// Where one request's outputs go.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  // One call at a time per request, in order: on a router thread or, if the
  // sink is quick, the engine's.
  virtual void OnOutput(SequenceOutput output) = 0;
  // Whether OnOutput never takes more than some ten microseconds. Does not
  // change once the request is submitted.
  virtual bool is_quick() const { return false; }
};

// Thread-safe.
class OutputRouter final : public OutputListener {
 public:
  // REQUIRES: num_threads > 0.
  explicit OutputRouter(int num_threads);
  // Delivers what it has, then stops. REQUIRES: the engine has stopped.
  ~OutputRouter() override;

  // One lock per thread and step, whatever the number of outputs. A step's only
  // output goes straight to a quick sink.
  void OnOutputs(std::vector<SequenceOutput> outputs) override;

  // Submits to `engine` and routes the request's outputs to `sink`, of which
  // it keeps a share until Remove. Statuses are the engine's.
  absl::StatusOr<RequestKey> Submit(EngineRequest request,
                                    std::shared_ptr<OutputSink> sink,
                                    EngineClient* engine);

  // No further output is handed over; one may be in progress.
  void Remove(RequestKey key);

 private:
  struct Lane {
    absl::Mutex mutex;
    bool stopping ABSL_GUARDED_BY(mutex) = false;
    bool is_delivering ABSL_GUARDED_BY(mutex) = false;  // its thread or another
    std::vector<SequenceOutput> outputs ABSL_GUARDED_BY(mutex);
    std::thread thread;
  };

  void Run(Lane* lane);
  Lane* LaneOf(RequestKey key) const {
    return lanes_[key.value() % lanes_.size()].get();
  }
  // Hands the output to its sink here and now, unless it must wait for its turn
  // or may take long. False: it is as it was.
  bool TryDeliver(SequenceOutput* output);
  void Deliver(std::vector<SequenceOutput> outputs);
  std::shared_ptr<OutputSink> Find(RequestKey key);

  // Held shared from before the engine knows a request until its sink is in
  // `sinks_`. Who finds no sink for a key waits for that to be over, and then
  // knows that the key is an old one.
  absl::Mutex submit_mutex_;
  absl::Mutex sinks_mutex_;
  std::unordered_map<RequestKey, std::shared_ptr<OutputSink>> sinks_
      ABSL_GUARDED_BY(sinks_mutex_);
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_OUTPUT_ROUTER_H_
