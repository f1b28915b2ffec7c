// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/candidates.h"

#include <algorithm>
#include <cmath>

#include "common/digest.h"
#include "tools/simulator/made_up_token.h"

namespace quire {

void MakeCandidates(const CandidateOptions& options, uint64_t prefix,
                    int32_t num, std::vector<TopLogprob>* candidates) {
  const uint64_t draw = MixBits(prefix ^ 0x63616e646964u);
  const double u = ((draw >> 11) + 0.5) * 0x1p-53;
  const double likeliest =
      1 - (1 - options.floor) * std::pow(u, 1 / options.sharpness);
  candidates->clear();
  double left = 1;
  for (int32_t idx = 0; idx < std::max(1, num); ++idx) {
    const double share = idx == 0 ? likeliest : options.next_share;
    const double probability = std::max(left * share, 1e-30);
    left -= probability;
    candidates->push_back(
        {.token_id = MadeUpToken(draw + static_cast<uint64_t>(idx)),
         .logprob = static_cast<float>(std::log(probability))});
  }
  // The rest together may be likelier than what was drawn for the first.
  std::stable_sort(candidates->begin(), candidates->end(),
                   [](const TopLogprob& a, const TopLogprob& b) {
                     return a.logprob > b.logprob;
                   });
}

}  // namespace quire
