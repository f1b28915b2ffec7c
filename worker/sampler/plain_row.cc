// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/plain_row.h"

#include "kernels/listed_choice.h"
#include "worker/batch/token_counts.h"
#include "worker/sampler/merge.h"

namespace quire {
namespace {

// Whether the logits stay as the model gave them, after so many tokens of
// output.
bool KeepsLogits(const SlotSampling& sampling, int32_t num_output) {
  const bool may_not_stop =
      num_output < sampling.min_tokens && !sampling.stop_token_ids.empty();
  return !TokenCounts::IsNeeded(sampling) && !may_not_stop &&
         sampling.logit_bias.empty() && sampling.bad_words.empty() &&
         sampling.allowed_token_ids.empty() && !sampling.needs_mask;
}

bool IsPlain(const SlotSampling& sampling, int32_t num_output) {
  return !NeedsCandidates(sampling) && KeepsLogits(sampling, num_output);
}

int32_t NumOutput(const Slot& slot) {
  return slot.num_tokens() - slot.num_prompt;
}

// Whether filters are all that the slot asks for.
bool IsFilteredAlone(const Slot& slot) {
  const SlotSampling& sampling = slot.sampling;
  return NeedsCandidates(sampling) && sampling.num_logprobs < 0 &&
         KeepsLogits(sampling, NumOutput(slot));
}

}  // namespace

bool IsPlainRow(const Slot& slot) {
  return IsPlain(slot.sampling, NumOutput(slot));
}

bool IsAlwaysPlain(const SlotSampling& sampling) {
  return IsPlain(sampling, /*num_output=*/0);
}

bool IsListedRow(const Slot& slot) {
  const int32_t top_k = slot.sampling.top_k;
  return IsFilteredAlone(slot) && top_k > 0 && top_k <= kMaxListed;
}

bool IsNucleusRow(const Slot& slot) {
  return IsFilteredAlone(slot) && slot.sampling.top_k <= 0;
}

}  // namespace quire
