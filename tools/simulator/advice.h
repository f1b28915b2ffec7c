// SPDX-License-Identifier: Apache-2.0
//
// Which flags to serve a load with, found by trying them in simulation.
#ifndef TOOLS_SIMULATOR_ADVICE_H_
#define TOOLS_SIMULATOR_ADVICE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/engine/engine_options.h"
#include "tools/simulator/cost_model.h"
#include "tools/simulator/simulation.h"
#include "tools/simulator/workload.h"

namespace quire {

// Percentiles that a choice should keep; 0: any.
struct LatencyLimits {
  double ttft_p99_s = 0;
  double tpot_p99_s = 0;
};

struct AdviceRequest {
  CostModel cost;
  EngineOptions engine;  // where the search starts
  std::vector<RequestLengths> lengths;
  double rate = 1;  // requests/s
  int64_t num_requests = 2000;
  uint64_t seed = 1;
  LatencyLimits limits;
};

struct Trial {
  EngineOptions engine;
  std::string changed;  // the flag that it tries, "start" for the first
  SimulationResult result;
  // The lower the better: by how much limits are passed, then normalized
  // latency.
  double excess = 0;
  bool chosen = false;  // the search went on from here
};

// Tries block sizes, token budgets, preemption modes and watermarks, one flag
// at a time from the best so far, twice through all. The first trial is the
// start; the last chosen one is the advice. Errors as Simulate.
absl::StatusOr<std::vector<Trial>> FindAdvice(const AdviceRequest& request);

// The flags of `engine` to paste.
std::string FlagsToPaste(const EngineOptions& engine);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_ADVICE_H_
