// SPDX-License-Identifier: Apache-2.0
//
// The systems that the PagedAttention paper compares, as choices of a KV
// manager and a policy.
#ifndef TOOLS_SIMULATOR_SERVING_SYSTEM_H_
#define TOOLS_SIMULATOR_SERVING_SYSTEM_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/simulator/simulation.h"

namespace quire {

struct ServingSystem {
  std::string name;   // of flags
  std::string label;  // of tables and plots
  std::string kv_manager;
  std::string scheduling_policy;
  bool contiguous_kv = false;
};

// From the least memory-efficient to ours.
const std::vector<ServingSystem>& ServingSystems();

// InvalidArgument lists the names that are known.
absl::StatusOr<ServingSystem> FindServingSystem(std::string_view name);

// Makes `options` those of the system; the rest stays.
void ApplyServingSystem(const ServingSystem& system,
                        SimulationOptions* options);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_SERVING_SYSTEM_H_
