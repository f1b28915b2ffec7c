// SPDX-License-Identifier: Apache-2.0
//
// The model's part of a cost model from a Hugging Face configuration.
#ifndef TOOLS_SIMULATOR_MODEL_COST_H_
#define TOOLS_SIMULATOR_MODEL_COST_H_

#include "absl/status/status.h"
#include "common/model_config.h"
#include "tools/simulator/cost_model.h"

namespace quire {

// Puts `config`, in 16-bit weights and cache, on `num_ranks` devices like the
// one of `cost`: replaces what concerns the model, and gives the pool
// `memory_utilization` of the device's memory without weights and activations.
// InvalidArgument if the heads cannot be shared or nothing is left.
absl::Status PutModel(const ModelConfig& config, int32_t num_ranks,
                      double memory_utilization, CostModel* cost);

}  // namespace quire

#endif  // TOOLS_SIMULATOR_MODEL_COST_H_
