// SPDX-License-Identifier: Apache-2.0
#include "tools/paper/testbed.h"

namespace quire {

Testbed RealTestbed(const ClusterOptions& cluster, double speed,
                    double max_trace_s) {
  return {.run =
              [cluster](const SimulationOptions& options,
                        const std::vector<SimulatedRequest>& requests) {
                SimulationOptions real = options;
                // The paper's engines wait for each step; ours need not.
                real.engine.run_ahead_depth = EngineOptions().run_ahead_depth;
                return RunOnCluster(cluster, real, requests);
              },
          .is_real = true,
          .speed = speed,
          .max_trace_s = max_trace_s,
          .fewest_requests = 1,
          .lone_rate = 0.25,
          .num_lone_requests = 4,
          .most_flooded_requests = 300,
          .knee_precision = 0.1};
}

}  // namespace quire
