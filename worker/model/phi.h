// SPDX-License-Identifier: Apache-2.0
//
// PhiForCausalLM: Phi 1, 1.5 and 2. Attention and MLP of a layer read the same
// norm and are added side by side; part of each head is rotated; every matrix
// has a bias, the head too.
#ifndef WORKER_MODEL_PHI_H_
#define WORKER_MODEL_PHI_H_

#include <memory>

#include "absl/status/statusor.h"
#include "worker/model/model.h"
#include "worker/model/model_context.h"

namespace quire {

absl::StatusOr<std::unique_ptr<Model>> CreatePhi(const ModelContext& context);

}  // namespace quire

#endif  // WORKER_MODEL_PHI_H_
