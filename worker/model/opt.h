// SPDX-License-Identifier: Apache-2.0
//
// OPTForCausalLM: OPT (arXiv 2205.01068), 125M to 175B. Learned positions,
// layer norms before the sublayers or, in the 350M model, after them, where
// embeddings are also narrower than the hidden states.
#ifndef WORKER_MODEL_OPT_H_
#define WORKER_MODEL_OPT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/model/model.h"
#include "worker/model/model_context.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Model>> CreateOpt(const ModelContext& context);

}  // namespace quire

#endif  // WORKER_MODEL_OPT_H_
