// SPDX-License-Identifier: Apache-2.0
//
// The engine's side of a worker group: step plans out, step results in. What
// lies behind it may be gRPC streams to processes, or a simulation.
#ifndef COORDINATOR_DISPATCH_DISPATCHER_H_
#define COORDINATOR_DISPATCH_DISPATCHER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "common/ids.h"
#include "common/step_plan.h"

namespace quire {

// A group that is loaded, profiled and ready for its first step.
struct GroupReady {
  Epoch coordinator_epoch;
  Epoch group_epoch;
  int32_t num_blocks = 0;       // the least that any rank has
  int32_t num_host_blocks = 0;  // to swap into; 0: none
  // What preemption costs, of the slowest rank; 0: unknown.
  double swap_blocks_per_second = 0;
  double prefill_tokens_per_second = 0;
  // Tokens of a block, where the workers say it: of a page group of virtual
  // memory. 0: what they were told.
  int32_t block_size = 0;
};

// Called from the dispatcher's threads; implementations hand over and return,
// or do a little work and return.
class DispatchListener {
 public:
  virtual ~DispatchListener() = default;

  // The group's workers hold no slots; the first plan must be step 1.
  virtual void OnGroupReady(const GroupReady& group) = 0;

  // Every rank has finished this step and they agree. Tokens are rank 0's.
  virtual void OnStepResult(StepResult result) = 0;

  // The epoch is over: a rank was lost, refused a plan or disagreed. No result
  // of it follows. `cause` is one line for people.
  virtual void OnGroupLost(Epoch group_epoch, const absl::Status& cause) = 0;
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;

  // Sends a plan to every rank of the group whose epoch it names; never
  // blocks. A plan for an epoch that is over is dropped.
  virtual void Send(const StepPlan& plan) = 0;

  // The engine cannot go on with this epoch: its workers are to hear that it is
  // over, as if one of them were lost. Nothing where no epoch could follow.
  virtual void Close(Epoch /*group_epoch*/, const absl::Status& /*cause*/) {}

  // Whether OnStepResult() may call Send() and Close(), and take some hundred
  // microseconds: it is called without a lock, from a thread that can wait.
  virtual bool is_reentrant() const { return false; }
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_DISPATCHER_H_
