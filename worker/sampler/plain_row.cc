// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/plain_row.h"

#include "kernels/listed_choice.h"
#include "worker/batch/token_counts.h"
#include "worker/sampler/merge.h"

namespace quire {
namespace {

// Whether penalties or logit_bias change logits.
bool HasEdits(const SlotSampling& sampling) {
  return TokenCounts::IsNeeded(sampling) || !sampling.logit_bias.empty();
}

// Whether tokens are masked, after so many of output.
bool HasMasks(const SlotSampling& sampling, int32_t num_output) {
  const bool may_not_stop =
      num_output < sampling.min_tokens && !sampling.stop_token_ids.empty();
  return may_not_stop || !sampling.bad_words.empty() ||
         !sampling.allowed_token_ids.empty() || sampling.needs_mask;
}

bool IsPlain(const SlotSampling& sampling, int32_t num_output) {
  return !NeedsCandidates(sampling) && !HasEdits(sampling) &&
         !HasMasks(sampling, num_output);
}

int32_t NumOutput(const Slot& slot) {
  return slot.num_tokens() - slot.num_prompt;
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
  return NeedsCandidates(slot.sampling) && top_k > 0 && top_k <= kMaxListed;
}

bool IsNucleusRow(const Slot& slot) {
  return NeedsCandidates(slot.sampling) && slot.sampling.top_k <= 0;
}

bool IsEditedRow(const Slot& slot) {
  const SlotSampling& sampling = slot.sampling;
  return (HasEdits(sampling) || HasMasks(sampling, NumOutput(slot))) &&
         (!NeedsCandidates(sampling) || sampling.top_k <= kMaxListed);
}

}  // namespace quire
