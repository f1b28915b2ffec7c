// SPDX-License-Identifier: Apache-2.0
//
// GPT2LMHeadModel: learned positions, layer norms before each sublayer, biases
// everywhere, one matrix for queries, keys and values. Its checkpoints store
// matrices as [inputs, outputs].
#ifndef WORKER_MODEL_GPT2_H_
#define WORKER_MODEL_GPT2_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/model/model.h"
#include "worker/model/model_context.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Model>> CreateGpt2(const ModelContext& context);

}  // namespace quire

#endif  // WORKER_MODEL_GPT2_H_
