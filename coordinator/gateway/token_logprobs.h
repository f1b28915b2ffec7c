// SPDX-License-Identifier: Apache-2.0
#ifndef COORDINATOR_GATEWAY_TOKEN_LOGPROBS_H_
#define COORDINATOR_GATEWAY_TOKEN_LOGPROBS_H_

#include "common/ids.h"
#include "common/step_plan.h"
#include "proto/types.pb.h"

namespace quire {

// As the API tells a token's log probability and those beside it.
inline void FillTokenLogprobs(TokenId token, const SampledLogprobs& sampled,
                              v1::TokenLogprobs* logprobs) {
  logprobs->set_token_id(token);
  logprobs->set_logprob(sampled.logprob);
  logprobs->set_rank(sampled.rank);
  for (const TopLogprob& likely : sampled.top) {
    auto* top = logprobs->add_top();
    top->set_token_id(likely.token_id);
    top->set_logprob(likely.logprob);
  }
}

}  // namespace quire

#endif  // COORDINATOR_GATEWAY_TOKEN_LOGPROBS_H_
