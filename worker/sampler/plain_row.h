// SPDX-License-Identifier: Apache-2.0
//
// Which rows shards of the vocabulary decide: by their best (ChooseTokens), by
// their largest few (kernels/listed_choice.h) or by what they weigh
// (kernels/nucleus_choice.h), as the model gave their logits or edited.
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
// logits that top_k leaves, or of those of them that top_p and min_p leave. A
// plain row is none.
bool IsListedRow(const Slot& slot);

// The same of a row that top_p or min_p cut and top_k does not.
bool IsNucleusRow(const Slot& slot);

// Whether penalties, logit_bias or masks change the logits of a row that is
// listed, a nucleus or without filters: shards decide once each is edited.
bool IsEditedRow(const Slot& slot);

}  // namespace quire

#endif  // WORKER_SAMPLER_PLAIN_ROW_H_
