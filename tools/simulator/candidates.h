// SPDX-License-Identifier: Apache-2.0
//
// Next-token candidates of a model that is not there: what beam search needs
// to choose among its beams, and so what decides how long beams keep a common
// past.
//
// At each prefix the likeliest token has probability `p`, drawn from the
// prefix's hash as 1 - (1 - floor) * u^(1 / sharpness), u even in (0, 1). Of
// what is left, the next one has the share `next_share`, and so on. A sharp
// distribution makes most steps certain, so that beams keep their ranks and
// their separate pasts; a flat one lets one beam's children push the others
// out, so that all share almost everything. A small next_share lets one beam
// have more than two children at a time.
//
// The defaults are fitted: to the blocks that beams of 2 and of 6 save on
// Alpaca in Figure 15 of the PagedAttention paper (SOSP'23), which both come
// out within 1.5 points; beams of 4 follow. They stand for OPT-13B on short
// instructions, not for every model and text.
#ifndef TOOLS_SIMULATOR_CANDIDATES_H_
#define TOOLS_SIMULATOR_CANDIDATES_H_

#include <cstdint>
#include <vector>

#include "common/step_plan.h"

namespace quire {

struct CandidateOptions {
  double floor = 0.4;       // least probability of the likeliest token, (0, 1)
  double sharpness = 0.3;   // > 0
  double next_share = 0.9;  // (0, 1)
};

// The max(1, num) likeliest tokens after the prefix of this hash, descending.
// Tokens differ, and none is below 100. A function of its arguments.
void MakeCandidates(const CandidateOptions& options, uint64_t prefix,
                    int32_t num, std::vector<TopLogprob>* candidates);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_CANDIDATES_H_
