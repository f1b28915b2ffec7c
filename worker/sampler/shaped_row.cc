// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/shaped_row.h"

#include <algorithm>

#include "worker/batch/token_counts.h"
#include "worker/sampler/bad_words.h"

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

void EditLists::Clear() {
  biases.clear();
  masked.clear();
  allowed.clear();
}

EditRow EditRowOf(int32_t row, SlotId slot_id, const Slot& slot,
                  EditLists* lists) {
  const SlotSampling& sampling = slot.sampling;
  EditRow edit = {};
  edit.row = row;
  edit.slot = slot_id.value();
  edit.first_bias = static_cast<int32_t>(lists->biases.size());
  edit.num_biases = static_cast<int32_t>(sampling.logit_bias.size());
  lists->biases.insert(lists->biases.end(), sampling.logit_bias.begin(),
                       sampling.logit_bias.end());
  std::vector<int32_t>& masked = lists->masked;
  edit.first_masked = static_cast<int32_t>(masked.size());
  if (slot.num_tokens() - slot.num_prompt < sampling.min_tokens) {
    masked.insert(masked.end(), sampling.stop_token_ids.begin(),
                  sampling.stop_token_ids.end());
  }
  AppendBadTokens(sampling.bad_words, /*output=*/{}, &masked);
  edit.num_masked = static_cast<int32_t>(masked.size()) - edit.first_masked;
  edit.first_allowed = -1;
  if (!slot.allowed.empty()) {
    edit.first_allowed = static_cast<int32_t>(lists->allowed.size());
    edit.num_allowed_words = static_cast<int32_t>(slot.allowed.size());
    lists->allowed.insert(lists->allowed.end(), slot.allowed.begin(),
                          slot.allowed.end());
  }
  edit.first_saved = -1;
  edit.is_penalised = TokenCounts::IsNeeded(sampling);
  edit.presence_penalty = sampling.presence_penalty;
  edit.frequency_penalty = sampling.frequency_penalty;
  edit.repetition_penalty = sampling.repetition_penalty;
  return edit;
}

void SaveLogits(const Slot& slot, int32_t num_restricted, EditRow* edit,
                int64_t* num_saved) {
  edit->first_saved = static_cast<int32_t>(*num_saved);
  const int32_t num_seen = edit->is_penalised ? slot.num_tokens() : 0;
  *num_saved +=
      std::max(edit->num_biases + edit->num_masked + num_seen, num_restricted);
}

}  // namespace quire
