// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/policy_registry.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/orca.h"
#include "coordinator/scheduler/paged_fcfs.h"
#include "coordinator/scheduler/static_batch.h"

namespace quire {
namespace {

struct Registration {
  std::string_view name;
  std::unique_ptr<SchedulingPolicy> (*make)();
};

template <typename Policy>
std::unique_ptr<SchedulingPolicy> Make() {
  return std::make_unique<Policy>();
}

constexpr Registration kPolicies[] = {
    {"paged_fcfs", &Make<PagedFcfs>},
    {"orca", &Make<Orca>},
    {"static_batch", &Make<StaticBatch>},
};

}  // namespace

absl::StatusOr<std::unique_ptr<SchedulingPolicy>> MakeSchedulingPolicy(
    std::string_view name) {
  std::string known;
  for (const Registration& registration : kPolicies) {
    if (registration.name == name) return registration.make();
    absl::StrAppend(&known, known.empty() ? "" : ", ",
                    std::string(registration.name));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--scheduling_policy=", std::string(name),
                   " is unknown; known: ", known));
}

}  // namespace quire
