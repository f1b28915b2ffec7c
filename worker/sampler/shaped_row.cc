// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/shaped_row.h"

#include "worker/batch/token_counts.h"

namespace quire {

ShapedRow ShapedRowOf(int32_t row, SlotId slot_id, const Slot& slot) {
  const SlotSampling& sampling = slot.sampling;
  ShapedRow shaped = {};
  shaped.seed = sampling.seed;
  shaped.position = slot.num_tokens();
  shaped.temperature = sampling.temperature;
  shaped.row = row;
  shaped.slot = slot_id.value();
  shaped.first_allowed = -1;
  shaped.top_k = sampling.top_k;
  shaped.top_p = sampling.top_p;
  shaped.min_p = sampling.min_p;
  return shaped;
}

EditRow EditRowOf(int32_t row, SlotId slot_id, const Slot& slot,
                  std::vector<TokenBias>* biases) {
  const SlotSampling& sampling = slot.sampling;
  EditRow edit = {};
  edit.row = row;
  edit.slot = slot_id.value();
  edit.first_bias = static_cast<int32_t>(biases->size());
  edit.num_biases = static_cast<int32_t>(sampling.logit_bias.size());
  biases->insert(biases->end(), sampling.logit_bias.begin(),
                 sampling.logit_bias.end());
  edit.first_allowed = -1;
  edit.first_saved = -1;
  edit.is_penalised = TokenCounts::IsNeeded(sampling);
  edit.presence_penalty = sampling.presence_penalty;
  edit.frequency_penalty = sampling.frequency_penalty;
  edit.repetition_penalty = sampling.repetition_penalty;
  return edit;
}

void SaveLogits(const Slot& slot, EditRow* edit, int64_t* num_saved) {
  edit->first_saved = static_cast<int32_t>(*num_saved);
  *num_saved += edit->num_biases + edit->num_masked;
  if (edit->is_penalised) *num_saved += slot.num_tokens();
}

}  // namespace quire
