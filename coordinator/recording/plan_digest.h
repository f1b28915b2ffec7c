// SPDX-License-Identifier: Apache-2.0
//
// A fingerprint of a whole step plan. Equal plans have equal digests on every
// machine; plans that differ in anything a worker would do differ in it.
#ifndef COORDINATOR_RECORDING_PLAN_DIGEST_H_
#define COORDINATOR_RECORDING_PLAN_DIGEST_H_

#include <array>
#include <cstdint>

#include "common/step_plan.h"

namespace quire {

uint64_t PlanDigest(const StepPlan& plan);

inline constexpr int kNumPlanParts = 13;
extern const std::array<const char*, kNumPlanParts> kPlanPartNames;

// How many of each part the plan has, in the order of common/step_plan.h.
std::array<uint32_t, kNumPlanParts> PlanPartSizes(const StepPlan& plan);

}  // namespace quire

#endif  // COORDINATOR_RECORDING_PLAN_DIGEST_H_
