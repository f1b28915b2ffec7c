// SPDX-License-Identifier: Apache-2.0
//
// Takes each step's outputs off the engine thread and hands them to the
// requests that wait for them, on threads of its own, its lanes; but what comes
// alone, and is quickly done, at once.
#ifndef COORDINATOR_GATEWAY_OUTPUT_ROUTER_H_
#define COORDINATOR_GATEWAY_OUTPUT_ROUTER_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/gateway/lane_gate.h"

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
  // The lane that it wants to hear from, below the router's number of lanes.
  // Does not change either.
  virtual std::optional<size_t> lane() const { return std::nullopt; }
};

// Thread-safe.
class OutputRouter final : public OutputListener {
 public:
  // REQUIRES: num_threads > 0.
  explicit OutputRouter(int num_threads);
  // A thread at each of `gates`, which are borrowed. REQUIRES: there is one.
  explicit OutputRouter(std::vector<LaneGate*> gates);
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

  // No output that comes from now on is handed over; those that have come may
  // still be.
  void Remove(RequestKey key);

 private:
  // Where a request's outputs go, always by the same lane so that they stay in
  // order. Without a sink: the engine was faster than Submit, or the request
  // is gone.
  struct Route {
    std::shared_ptr<OutputSink> sink;
    size_t lane_idx = 0;
  };
  struct Delivery {
    std::shared_ptr<OutputSink> sink;
    SequenceOutput output;
  };
  struct Lane {
    LaneGate* gate = nullptr;
    absl::Mutex mutex;
    bool stopping ABSL_GUARDED_BY(mutex) = false;
    bool is_delivering ABSL_GUARDED_BY(mutex) = false;  // its thread or another
    std::vector<Delivery> queue ABSL_GUARDED_BY(mutex);
    std::thread thread;
  };

  void AddLane(LaneGate* gate);
  void Run(Lane* lane);
  // The route that there is, or one without a sink.
  Route* RouteOf(RequestKey key, const OutputSink* sink)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(routes_mutex_);
  // Hands the output to its sink here and now, unless it must wait for its turn
  // or may take long. False: it is as it was.
  bool TryDeliver(SequenceOutput* output);
  void Deliver(std::vector<Delivery> deliveries);
  // Of a route without one. Null: the request is gone, and so is the route.
  std::shared_ptr<OutputSink> AwaitSink(RequestKey key);

  // Held shared from before the engine knows a request until its sink is in
  // `routes_`. Who finds no sink for a key waits for that to be over, and then
  // knows that the key is an old one.
  absl::Mutex submit_mutex_;
  absl::Mutex routes_mutex_;
  std::unordered_map<RequestKey, Route> routes_ ABSL_GUARDED_BY(routes_mutex_);
  std::vector<std::unique_ptr<LaneGate>> own_gates_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_OUTPUT_ROUTER_H_
