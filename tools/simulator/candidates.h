// SPDX-License-Identifier: Apache-2.0
//
// Next-token candidates of a model that is not there: what beam search needs
// to choose among its beams, and so what decides how long beams keep a common
// past.
//
// At each prefix the likeliest token has probability `p`, drawn from the
// prefix's hash as 1 - (1 - floor) * u^(1 / sharpness), u even in (0, 1); the
// rest fall off by half. A sharp distribution makes most steps certain, so
// that beams keep their ranks and their separate pasts; a flat one lets one
// beam's children push the others out, so that all share almost everything.
#ifndef TOOLS_SIMULATOR_CANDIDATES_H_
#define TOOLS_SIMULATOR_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include "common/step_plan.h"

namespace quire {

struct CandidateOptions {
  double floor = 0.02;   // least probability of the likeliest token, (0, 1)
  double sharpness = 1;  // > 0
};

// The max(1, num) likeliest tokens after the prefix of this hash, descending.
// Tokens differ, and none is below 100. A function of its arguments.
void MakeCandidates(const CandidateOptions& options, uint64_t prefix,
                    int32_t num, std::vector<TopLogprob>* candidates);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_CANDIDATES_H_
