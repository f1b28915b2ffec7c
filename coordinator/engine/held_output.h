// SPDX-License-Identifier: Apache-2.0
//
// What a sequence has to say that is not said yet, because only the best of its
// group are returned.
#ifndef COORDINATOR_ENGINE_HELD_OUTPUT_H_
#define COORDINATOR_ENGINE_HELD_OUTPUT_H_

#include <vector>

#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/engine/engine_client.h"

namespace quire {

// Plain data. Its tokens are the sequence's.
struct HeldOutput {
  double cumulative_logprob = 0;          // natural logarithm
  std::vector<SampledLogprobs> logprobs;  // one per token, if asked for
  FinishReason finish_reason = FinishReason::kNone;
  TokenId stop_token_id = -1;
};

}  // namespace quire

#endif  // COORDINATOR_ENGINE_HELD_OUTPUT_H_
