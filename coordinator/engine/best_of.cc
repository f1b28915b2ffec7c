// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/best_of.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "glog/logging.h"

namespace quire {

void WithholdUnlessAllReturned(SequenceGroup* group) {
  const SamplingParams& sampling = group->sampling;
  if (sampling.beam_width > 0 || sampling.best_of <= sampling.n) return;
  group->held.resize(group->sequences.size());
  for (Sequence& seq : group->sequences) seq.withheld = true;
}

void Hold(SequenceOutput output, Sequence* sequence) {
  DCHECK(sequence->withheld);
  SequenceGroup* group = sequence->group;
  HeldOutput& held = group->held[sequence->index];
  for (SampledLogprobs& logprobs : output.logprobs) {
    held.cumulative_logprob += logprobs.logprob;
    if (group->sampling.slot.num_logprobs < 0) continue;
    logprobs.sample_idx = static_cast<int32_t>(held.logprobs.size());
    held.logprobs.push_back(std::move(logprobs));
  }
  held.finish_reason = output.finish_reason;
  held.stop_token_id = output.stop_token_id;
}

void ReleaseBest(SequenceGroup* group, std::vector<SequenceOutput>* outputs) {
  CHECK_EQ(group->held.size(), group->sequences.size());
  std::vector<int32_t> order(group->held.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return group->held[a].cumulative_logprob >
           group->held[b].cumulative_logprob;
  });
  for (int32_t rank = 0; rank < group->sampling.n; ++rank) {
    const Sequence& seq = group->sequences[order[rank]];
    HeldOutput& held = group->held[order[rank]];
    SequenceOutput& output = outputs->emplace_back();
    output.request = group->key;
    output.index = rank;
    output.tokens.assign(seq.tokens.begin() + seq.num_prompt_tokens,
                         seq.tokens.end());
    output.logprobs = std::move(held.logprobs);
    output.finish_reason = held.finish_reason;
    output.stop_token_id = held.stop_token_id;
    output.num_cached_tokens = group->num_cached_tokens;
  }
}

}  // namespace quire
