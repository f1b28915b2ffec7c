// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/plain_row.h"

#include "worker/batch/token_counts.h"
#include "worker/sampler/merge.h"

namespace quire {

bool IsPlainRow(const Slot& slot) {
  const SlotSampling& sampling = slot.sampling;
  const bool is_masked =
      slot.num_tokens() - slot.num_prompt < sampling.min_tokens &&
      !sampling.stop_token_ids.empty();
  return !NeedsCandidates(sampling) && !TokenCounts::IsNeeded(sampling) &&
         !is_masked && sampling.logit_bias.empty() &&
         sampling.bad_words.empty() && sampling.allowed_token_ids.empty() &&
         !sampling.needs_mask;
}

}  // namespace quire
