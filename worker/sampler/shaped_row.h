// SPDX-License-Identifier: Apache-2.0
//
// What a slot's sampling says to a device of its row.
#ifndef WORKER_SAMPLER_SHAPED_ROW_H_
#define WORKER_SAMPLER_SHAPED_ROW_H_

#include <cstdint>
#include <vector>

#include "common/ids.h"
#include "common/token_bias.h"
#include "kernels/shaped_choice.h"
#include "worker/batch/slot_state.h"

namespace quire {

// What edits of a step's rows name, row after row.
struct EditLists {
  std::vector<TokenBias> biases;
  std::vector<int32_t> masked;
  std::vector<uint32_t> allowed;

  void Clear();
};

// For the slot's next token, from that row of the logits, where all ids are
// allowed.
ShapedRow ShapedRowOf(int32_t row, SlotId slot_id, const Slot& slot);

// What penalties, logit_bias and masks change of that row, with what it appends
// to `lists`; nothing is saved. REQUIRES: bad words are of one token.
EditRow EditRowOf(int32_t row, SlotId slot_id, const Slot& slot,
                  EditLists* lists);

// Lets the edit keep the logits that it changes, behind `num_saved` others.
// `num_restricted`: columns of a shard that allowed ids restrict, else 0.
void SaveLogits(const Slot& slot, int32_t num_restricted, EditRow* edit,
                int64_t* num_saved);

}  // namespace quire

#endif  // WORKER_SAMPLER_SHAPED_ROW_H_
