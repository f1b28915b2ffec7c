// SPDX-License-Identifier: Apache-2.0
//
// When requests arrive: vLLM's open-loop arrival process.
#ifndef TOOLS_LOADGEN_ARRIVALS_H_
#define TOOLS_LOADGEN_ARRIVALS_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "tools/loadgen/options.h"

namespace quire {

// The arrival of each of `num_requests` requests after the run's start, in
// order. The gaps are gamma distributed with mean 1 / rate and shape
// `burstiness` (exponential, a Poisson process, at 1). At a constant rate they
// are then scaled so that the last request arrives after num_requests / rate
// exactly, which makes runs of one rate comparable. A function of its
// arguments.
std::vector<absl::Duration> ArrivalTimes(const ArrivalOptions& options,
                                         int64_t num_requests, int64_t seed);

}  // namespace quire

#endif  // TOOLS_LOADGEN_ARRIVALS_H_
