// SPDX-License-Identifier: Apache-2.0
#ifndef COORDINATOR_SCHEDULER_ROUND_TOKENS_H_
#define COORDINATOR_SCHEDULER_ROUND_TOKENS_H_

#include "coordinator/scheduler/policy.h"

namespace quire {

// Cuts a step to whole multiples of View::token_multiple tokens: matrix units
// work on tiles of so many, and a begun one costs as much as a full one. Parts
// of prompts give way, the last first, down to a token each; what is cut goes
// into the next step. Nothing is cut from a step whose decodes fill no tile, as
// there may be no next one to go with, nor if the prompts cannot give way that
// far.
void RoundTokens(const View& view, Decision* decision);

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_ROUND_TOKENS_H_
