// SPDX-License-Identifier: Apache-2.0
//
// Runs that figures are made of, as many at a time as there are cores. Results
// do not depend on how many.
#ifndef TOOLS_PAPER_EXPERIMENT_H_
#define TOOLS_PAPER_EXPERIMENT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/paper/testbed.h"
#include "tools/simulator/serving_system.h"
#include "tools/simulator/simulation.h"
#include "tools/simulator/workload.h"

namespace quire {

// A load, but for its rate.
struct Load {
  std::vector<RequestLengths> lengths;
  int32_t num_sequences = 1;
  int32_t beam_width = 0;
  int32_t prefix_len = 0;
  bool prefix_cache = false;  // for managers that have one
};

struct Experiment {
  Testbed testbed;
  ServingSystem system;
  CostModel cost;
  EngineOptions engine;
  CandidateOptions candidates;
  Load load;
  bool answers_by_batch = false;  // see SimulationOptions
  uint64_t seed = 1;
};

// The paper's options on `preset`: blocks of 16, run-ahead 1, and a token
// budget with which no prompt is ever cut.
absl::StatusOr<Experiment> MakeExperiment(const Testbed& testbed,
                                          const std::string& system,
                                          const std::string& preset, Load load);

// At `rate` for `trace_s` seconds of the testbed's time, or for as long as it
// allows; until everything has ended, or only until the last arrival.
absl::StatusOr<SimulationResult> RunAt(const Experiment& experiment,
                                       double rate, double trace_s,
                                       bool stop_at_last_arrival);

// The highest rate, to the testbed's precision, at which the mean normalized
// latency is at most five times that of a lone request.
absl::StatusOr<double> FindKnee(const Experiment& experiment, double trace_s);

// Calls body(idx) for [0, num), on `num_threads` threads. The first error.
absl::Status ForEach(int num, int num_threads,
                     const std::function<absl::Status(int idx)>& body);

}  // namespace quire

#endif  // TOOLS_PAPER_EXPERIMENT_H_
