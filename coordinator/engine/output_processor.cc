// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/output_processor.h"

#include <algorithm>
#include <utility>

#include "glog/logging.h"

namespace quire {

void AcceptToken(TokenId token, SampledLogprobs* logprobs, Sequence* sequence,
                 std::vector<SequenceOutput>* outputs) {
  DCHECK(!sequence->finished);
  DCHECK_LT(sequence->num_tokens(), sequence->max_num_tokens);
  SequenceOutput& output = outputs->emplace_back();
  output.request = sequence->request;
  output.index = sequence->index;
  output.token_offset = sequence->num_output_tokens();
  output.tokens.push_back(token);
  if (logprobs != nullptr) {
    logprobs->sample_idx = 0;
    output.logprobs.push_back(std::move(*logprobs));
  }
  sequence->tokens.push_back(token);
  const auto& stops = sequence->stop_token_ids;
  if (output.token_offset >= sequence->min_tokens &&
      std::binary_search(stops.begin(), stops.end(), token)) {
    output.finish_reason = FinishReason::kStop;
    output.stop_token_id = token;
  } else if (sequence->num_tokens() >= sequence->max_num_tokens) {
    output.finish_reason = FinishReason::kLength;
  }
  sequence->finished = output.finish_reason != FinishReason::kNone;
}

}  // namespace quire
