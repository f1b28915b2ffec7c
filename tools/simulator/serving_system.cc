// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/serving_system.h"

#include "absl/strings/str_cat.h"

namespace quire {

const std::vector<ServingSystem>& ServingSystems() {
  static const auto& systems = *new std::vector<ServingSystem>{
      {.name = "static_batch",
       .label = "FasterTransformer",
       .kv_manager = "orca_max",
       .scheduling_policy = "static_batch",
       .contiguous_kv = true},
      {.name = "orca_max",
       .label = "Orca (Max)",
       .kv_manager = "orca_max",
       .scheduling_policy = "orca",
       .contiguous_kv = true},
      {.name = "orca_pow2",
       .label = "Orca (Pow2)",
       .kv_manager = "orca_pow2",
       .scheduling_policy = "orca",
       .contiguous_kv = true},
      {.name = "orca_oracle",
       .label = "Orca (Oracle)",
       .kv_manager = "orca_oracle",
       .scheduling_policy = "orca",
       .contiguous_kv = true},
      {.name = "paged",
       .label = "Quire",
       .kv_manager = "paged",
       .scheduling_policy = "paged_fcfs"},
  };
  return systems;
}

absl::StatusOr<ServingSystem> FindServingSystem(std::string_view name) {
  std::string known;
  for (const ServingSystem& system : ServingSystems()) {
    if (system.name == name) return system;
    absl::StrAppend(&known, known.empty() ? "" : ", ", system.name);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--system=", std::string(name), " is unknown; known: ", known));
}

void ApplyServingSystem(const ServingSystem& system,
                        SimulationOptions* options) {
  options->engine.kv_manager = system.kv_manager;
  options->engine.scheduling_policy = system.scheduling_policy;
  options->contiguous_kv = system.contiguous_kv;
}

}  // namespace quire
