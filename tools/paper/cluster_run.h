// SPDX-License-Identifier: Apache-2.0
//
// A simulation's run on real workers: a server of its own, requests over gRPC
// in real time, and the recording that it leaves.
#ifndef TOOLS_PAPER_CLUSTER_RUN_H_
#define TOOLS_PAPER_CLUSTER_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/simulator/simulation.h"
#include "tools/simulator/workload.h"

namespace quire {

struct ClusterOptions {
  std::string quire;  // the launcher's program
  std::string device = "cuda";
  // Hugging Face folder. Weights are made up, as only their shapes matter.
  std::string model;
  int64_t tensor_parallel_size = 1;
  // Existing; the server's logs and recording go there.
  std::string folder;
};

// The flags with which `quire serve` runs what `options` simulates: the
// engine's options, and the pool that the cost model says.
std::vector<std::string> ServeFlagsFor(const SimulationOptions& options);

// Serves `requests` at their times and measures it, as MeasureRecording does.
// Takes as long as the requests do, and the server's start. Unavailable, with
// its last words, if the server ends; Aborted if requests fail that nobody gave
// up. The calling thread must live as long as this runs.
absl::StatusOr<SimulationResult> RunOnCluster(
    const ClusterOptions& cluster, const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests);

}  // namespace quire

#endif  // TOOLS_PAPER_CLUSTER_RUN_H_
