// SPDX-License-Identifier: Apache-2.0
//
// A sampled token becomes part of its sequence, may end it, and is news.
#ifndef COORDINATOR_ENGINE_OUTPUT_PROCESSOR_H_
#define COORDINATOR_ENGINE_OUTPUT_PROCESSOR_H_

#include <vector>

#include "common/ids.h"
#include "common/step_plan.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/sequence.h"

namespace quire {

// Appends `token` to `sequence` and its news to `outputs`. A stop token is part
// of the output; it ends the sequence (kStop) unless fewer than min_tokens
// outputs came before it. The last token that max_tokens allows ends it too
// (kLength). `logprobs` is moved from, and null when none came.
// REQUIRES: the sequence is neither finished nor full.
void AcceptToken(TokenId token, SampledLogprobs* logprobs, Sequence* sequence,
                 std::vector<SequenceOutput>* outputs);

}  // namespace quire

#endif  // COORDINATOR_ENGINE_OUTPUT_PROCESSOR_H_
