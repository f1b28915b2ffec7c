// SPDX-License-Identifier: Apache-2.0
//
// Which rows need nothing but their logits and noise, so that ChooseTokens
// serves them.
#ifndef WORKER_SAMPLER_PLAIN_ROW_H_
#define WORKER_SAMPLER_PLAIN_ROW_H_

#include "worker/batch/slot_state.h"

namespace quire {

// Whether the slot's next token is the best of all its noisy logits as the
// model gave them.
bool IsPlainRow(const Slot& slot);
// Whether that is so of every slot with these parameters, at all times.
bool IsAlwaysPlain(const SlotSampling& sampling);

}  // namespace quire

#endif  // WORKER_SAMPLER_PLAIN_ROW_H_
