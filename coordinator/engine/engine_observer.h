// SPDX-License-Identifier: Apache-2.0
//
// Sees everything that goes into an engine and what it plans, in order.
#ifndef COORDINATOR_ENGINE_ENGINE_OBSERVER_H_
#define COORDINATOR_ENGINE_ENGINE_OBSERVER_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// Called on the engine thread, with the arguments of the EngineCore method of
// like name, before it runs: must take what it wants and return.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;

  virtual void OnRequest(RequestKey key, const EngineRequest& request,
                         absl::Time now) = 0;
  virtual void OnFinish(RequestKey key, FinishReason reason,
                        absl::Time now) = 0;
  virtual void OnFinishSequence(RequestKey key, int32_t index,
                                absl::Time now) = 0;
  virtual void OnMask(RequestKey key, int32_t index, int64_t num_outputs,
                      absl::Time now) = 0;
  virtual void OnEndAll(const absl::Status& status, absl::Time now) = 0;
  virtual void OnGroupReady(const GroupReady& group, absl::Time now) = 0;
  virtual void OnStepResult(const StepResult& result, absl::Time now) = 0;
  virtual void OnGroupLost(Epoch group_epoch, const absl::Status& cause,
                           absl::Time now) = 0;
  // Requests leave for another engine or come from one, and what they bring is
  // not shown: nobody can follow from here.
  virtual void OnMove(absl::Time /*now*/) {}
  // After EngineCore::Plan(now) gave `plan`; null if it gave none.
  virtual void OnPlan(const StepPlan* plan, absl::Time now) = 0;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_ENGINE_OBSERVER_H_
