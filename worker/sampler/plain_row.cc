// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/plain_row.h"

#include "worker/batch/token_counts.h"
#include "worker/sampler/merge.h"

namespace quire {
namespace {

// After so many tokens of output.
bool IsPlain(const SlotSampling& sampling, int32_t num_output) {
  const bool may_not_stop =
      num_output < sampling.min_tokens && !sampling.stop_token_ids.empty();
  return !NeedsCandidates(sampling) && !TokenCounts::IsNeeded(sampling) &&
         !may_not_stop && sampling.logit_bias.empty() &&
         sampling.bad_words.empty() && sampling.allowed_token_ids.empty() &&
         !sampling.needs_mask;
}

}  // namespace

bool IsPlainRow(const Slot& slot) {
  return IsPlain(slot.sampling, slot.num_tokens() - slot.num_prompt);
}

bool IsAlwaysPlain(const SlotSampling& sampling) {
  return IsPlain(sampling, /*num_output=*/0);
}

}  // namespace quire
