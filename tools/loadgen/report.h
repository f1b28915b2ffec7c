// SPDX-License-Identifier: Apache-2.0
//
// A run's result for people and for programs, in the form of vLLM's `bench
// serve`.
#ifndef TOOLS_LOADGEN_REPORT_H_
#define TOOLS_LOADGEN_REPORT_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "tools/loadgen/dataset.h"
#include "tools/loadgen/options.h"
#include "tools/loadgen/runner.h"
#include "tools/loadgen/statistics.h"
#include "tools/loadgen/verify.h"

namespace quire {

// The block of 50 columns that ends a run.
std::string ConsoleBlock(const LoadgenOptions& options,
                         const RunMetrics& metrics);

// `verify` may be null: nothing was repeated. With --save_detailed, every
// request's values too: ttfts, itls and latencies in seconds, start_times in
// seconds from the run's start. `options.model` names the model.
nlohmann::ordered_json ResultJson(const LoadgenOptions& options,
                                  const RunMetrics& metrics,
                                  const RunResult& run,
                                  const VerifyResult* verify, absl::Time date);

// "20.0qps-demo-20261122-093000.json", preceded by the label and followed by
// the concurrency where there is one.
std::string ResultFilename(const LoadgenOptions& options, absl::Time date);

}  // namespace quire

#endif  // TOOLS_LOADGEN_REPORT_H_
