// SPDX-License-Identifier: Apache-2.0
#include "worker/sampler/shaped_row.h"

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

}  // namespace quire
