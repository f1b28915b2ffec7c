// SPDX-License-Identifier: Apache-2.0
//
// Step plans and results to and from protobuf: the only code that does it.
//
// Both directions overwrite a caller's object and keep what it has allocated,
// so a steady decode allocates nothing once the objects have grown.
#ifndef COMMON_WIRE_STEP_PLAN_WIRE_H_
#define COMMON_WIRE_STEP_PLAN_WIRE_H_

#include "absl/status/status.h"
#include "common/step_plan.h"

namespace quire {

namespace v1 {
class StepPlan;
class StepResult;
}  // namespace v1

// REQUIRES: no number is negative, but for SlotSampling::num_logprobs.
void EncodeStepPlan(const StepPlan& plan, v1::StepPlan* message);

// InvalidArgument names the first field that is malformed: a flat list of the
// wrong length, a number out of its range. Whether the plan fits a worker's
// state is for the worker to say.
absl::Status DecodeStepPlan(const v1::StepPlan& message, StepPlan* plan);

void EncodeStepResult(const StepResult& result, v1::StepResult* message);
absl::Status DecodeStepResult(const v1::StepResult& message,
                              StepResult* result);

}  // namespace quire

#endif  // COMMON_WIRE_STEP_PLAN_WIRE_H_
