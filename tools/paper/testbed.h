// SPDX-License-Identifier: Apache-2.0
//
// What experiments run on: a simulation or this machine's workers.
#ifndef TOOLS_PAPER_TESTBED_H_
#define TOOLS_PAPER_TESTBED_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/paper/cluster_run.h"
#include "tools/simulator/simulation.h"
#include "tools/simulator/workload.h"

namespace quire {

struct Testbed {
  std::function<absl::StatusOr<SimulationResult>(
      const SimulationOptions& options,
      const std::vector<SimulatedRequest>& requests)>
      run = Simulate;
  bool is_real = false;
  // Times that it is as fast as the paper's machine: its rates are multiplied
  // by so much.
  double speed = 1;
  double max_trace_s = std::numeric_limits<double>::infinity();
  int64_t fewest_requests = 200;
  int64_t most_requests = 200000;
  // Requests of one run at so low a rate that none meets another.
  double lone_rate = 1e-3;
  int64_t num_lone_requests = 200;
  int64_t most_flooded_requests = 4000;
  double knee_precision = 0.02;
};

// In real time, so with few requests.
Testbed RealTestbed(const ClusterOptions& cluster, double speed,
                    double max_trace_s);

}  // namespace quire

#endif  // TOOLS_PAPER_TESTBED_H_
