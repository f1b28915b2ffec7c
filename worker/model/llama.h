// SPDX-License-Identifier: Apache-2.0
//
// Llama 1, 2 and 3, Mistral, Qwen 2 and Qwen 3, and the mixtures of experts
// among them (Mixtral, Qwen 2 MoE, Qwen 3 MoE): one layout, whose biases, head
// norms, attention windows and experts the config decides.
#ifndef WORKER_MODEL_LLAMA_H_
#define WORKER_MODEL_LLAMA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/model/model.h"
#include "worker/model/model_context.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Model>> CreateLlama(const ModelContext& context);

}  // namespace quire

#endif  // WORKER_MODEL_LLAMA_H_
