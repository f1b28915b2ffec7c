// SPDX-License-Identifier: Apache-2.0
//
// Which rows a shard's best decide, so that ChooseTokens serves them, which a
// shard's largest few (kernels/listed_choice.h), and which what a shard weighs
// (kernels/nucleus_choice.h).
#ifndef WORKER_SAMPLER_PLAIN_ROW_H_
#define WORKER_SAMPLER_PLAIN_ROW_H_

#include "worker/batch/slot_state.h"

namespace quire {

// Whether the slot's next token is the best of all its noisy logits as the
// model gave them.
bool IsPlainRow(const Slot& slot);
// Whether that is so of every slot with these parameters, at all times.
bool IsAlwaysPlain(const SlotSampling& sampling);

// Whether the slot's next token is the best noisy one of at most kMaxListed
// logits that top_k leaves, as the model gave them, or of those of them that
// top_p and min_p leave, and nobody wants to know its log probability. A plain
// row is none.
bool IsListedRow(const Slot& slot);

// The same of a row that top_p or min_p cut and top_k does not.
bool IsNucleusRow(const Slot& slot);

}  // namespace quire

#endif  // WORKER_SAMPLER_PLAIN_ROW_H_
