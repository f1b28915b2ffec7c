// SPDX-License-Identifier: Apache-2.0
//
// What a simulation says of its run, said of a real one: the recording is
// decided again and measured at the times that it holds.
#ifndef TOOLS_PAPER_RECORDED_RUN_H_
#define TOOLS_PAPER_RECORDED_RUN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/simulator/simulation.h"
#include "tools/simulator/workload.h"

namespace quire {

// `path` is a recording (see proto/recording.proto) of an engine with
// `options.engine`, which served `requests`, each with its index for a seed.
// Means are taken from the end of `options.warmup` of the arrivals' time to the
// last arrival; a step lasts from its plan, or the result before it if that
// came later, to its result. Rates are over the time from the first arrival to
// the last result, or, with stop_at_last_arrival, to the last arrival, what
// ended later being left out. The rest of `options` is not read.
//
// As Replay; DataLoss if a plan does not come out as recorded or the recording
// was cut off.
absl::StatusOr<SimulationResult> MeasureRecording(
    const std::string& path, const SimulationOptions& options,
    const std::vector<SimulatedRequest>& requests);

}  // namespace quire

#endif  // TOOLS_PAPER_RECORDED_RUN_H_
