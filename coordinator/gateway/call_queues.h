// SPDX-License-Identifier: Apache-2.0
//
// The completion queues of calls that stream, in lanes: a lane's calls are
// answered on one thread of the router's, and arrive on others, as what begins
// a request may take a millisecond, or one of 16 MiB a second to read.
#ifndef COORDINATOR_GATEWAY_CALL_QUEUES_H_
#define COORDINATOR_GATEWAY_CALL_QUEUES_H_

#include <grpcpp/completion_queue.h>
#include <grpcpp/server_builder.h>

#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include "coordinator/gateway/call_count.h"
#include "coordinator/gateway/call_queue.h"
#include "coordinator/gateway/lane_gate.h"

namespace quire {

// Thread-compatible.
class CallQueues {
 public:
  // Calls arrive on `num_arrival_threads` of each lane. REQUIRES: both > 0.
  CallQueues(int num_lanes, int num_arrival_threads);
  // REQUIRES: closed, or never added to a server.
  ~CallQueues();

  // What the router waits at, one a lane. They live as long as this does.
  std::vector<LaneGate*> gates();

  // Adds the queues to the server that `builder` makes. REQUIRES: called once.
  void AddTo(grpc::ServerBuilder* builder);
  // Waits until all calls are gone, as gRPC dies of what they would start at a
  // queue that is shut down, then ends the queues. REQUIRES: the server has
  // shut down, the router runs. May be called again.
  void Close();

  size_t num_lanes() const { return lanes_.size(); }
  // For each call that gRPC is asked for.
  CallCount::Share TakeShare() { return count_.Take(); }
  // Of calls that run, and of those that begin. REQUIRES: added to a server,
  // not closed.
  grpc::ServerCompletionQueue* calls(size_t lane);
  grpc::ServerCompletionQueue* arrivals(size_t lane);

 private:
  struct Lane {
    CallQueue calls;
    std::unique_ptr<grpc::ServerCompletionQueue> arrivals;
    std::vector<std::thread> threads;  // of arrivals
  };

  const int num_arrival_threads_;
  CallCount count_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_CALL_QUEUES_H_
