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

// For the slot's next token, from that row of the logits, where all ids are
// allowed.
ShapedRow ShapedRowOf(int32_t row, SlotId slot_id, const Slot& slot);

// What penalties and logit_bias, which is appended to `biases`, change of that
// row; no masks, and nothing is saved.
EditRow EditRowOf(int32_t row, SlotId slot_id, const Slot& slot,
                  std::vector<TokenBias>* biases);

// Lets the edit, whose lists are complete, keep the logits that it changes,
// behind as many others.
void SaveLogits(const Slot& slot, EditRow* edit, int64_t* num_saved);

}  // namespace quire

#endif  // WORKER_SAMPLER_SHAPED_ROW_H_
