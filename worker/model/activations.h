// SPDX-License-Identifier: Apache-2.0
//
// The intermediate tensors of a step, allocated once for the largest step.
#ifndef WORKER_MODEL_ACTIVATIONS_H_
#define WORKER_MODEL_ACTIVATIONS_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "kernels/backend.h"
#include "worker/model/model.h"
#include "worker/model/rank_shape.h"

namespace quire {

// T: tokens of a step, R: sampled rows; pointers into one buffer. What is never
// needed at the same time shares its place: the attention's tensors, the MLP's,
// the experts', and those of the first and last layers.
struct Activations {
  std::unique_ptr<DeviceBuffer> buffer;

  void* residual = nullptr;  // [T, hidden_size] model dtype
  void* normed = nullptr;    // [T, hidden_size] model dtype
  void* partial = nullptr;   // [T, hidden_size] partial dtype
  float* squares = nullptr;  // FoldedNorm's, of hidden_size columns
  void* kept = nullptr;      // [R, hidden_size] model dtype; of `residual`

  void* qkv = nullptr;       // [T, q_size + 2 kv_size] model dtype
  void* attended = nullptr;  // [T, q_size] model dtype

  void* mlp_in = nullptr;   // [T, (1 or 2) x num_intermediate] model dtype
  void* mlp_act = nullptr;  // [T, num_intermediate]; mlp_in unless gated

  // Of mixtures of experts (kernels/moe.h); k: experts of a token.
  float* router_logits = nullptr;   // [T, router rows]
  float* expert_weights = nullptr;  // [T, k]
  int32_t* experts = nullptr;       // [T, k]
  int32_t* row_tokens = nullptr;    // [T k]
  int32_t* pair_rows = nullptr;     // [T, k]
  int32_t* expert_start = nullptr;  // [num_experts + 1]
  void* expert_in = nullptr;        // [T k, 2 x num_expert_intermediate]
  void* expert_act = nullptr;  // [T k, num_expert_intermediate] model dtype
  void* expert_out = nullptr;  // [T k, hidden_size] partial dtype

  void* embedded = nullptr;  // [T, embedding_size] model dtype

  void* sampled = nullptr;    // [R, hidden_size] model dtype
  void* projected = nullptr;  // [R, embedding_size] model dtype

  float* logits = nullptr;  // [R, vocab.num_ids]
};

// ResourceExhausted if the device has not that much memory.
absl::StatusOr<Activations> AllocateActivations(const ModelConfig& config,
                                                const RankShape& shape,
                                                const StepLimits& limits,
                                                Backend& backend);

}  // namespace quire

#endif  // WORKER_MODEL_ACTIVATIONS_H_
