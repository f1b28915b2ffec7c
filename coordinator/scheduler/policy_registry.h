// SPDX-License-Identifier: Apache-2.0
//
// Scheduling policies by the name that --scheduling_policy takes.
#ifndef COORDINATOR_SCHEDULER_POLICY_REGISTRY_H_
#define COORDINATOR_SCHEDULER_POLICY_REGISTRY_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "coordinator/scheduler/policy.h"

namespace quire {

// InvalidArgument for an unknown name; the known ones are listed.
absl::StatusOr<std::unique_ptr<SchedulingPolicy>> MakeSchedulingPolicy(
    std::string_view name);

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_POLICY_REGISTRY_H_
