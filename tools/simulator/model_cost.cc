// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/model_cost.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {
namespace {

constexpr double kBytes = 2;  // of a weight, an activation, a cached number
// Of the largest step and the libraries.
constexpr double kActivationBytes = 4e9;
// One all-reduce, and its bandwidth: NVLink between two H200s, measured.
constexpr double kAllReduceSeconds = 3.5e-6;
constexpr double kAllReduceBandwidth = 370e9;

// Weights that a step multiplies by, lm_head included, if tokens have
// `num_experts` experts of each mixture; embeddings that it only looks up are
// left out.
double NumGemmWeights(const ModelConfig& config, int32_t num_experts) {
  const double hidden = config.hidden_size;
  const double attention =
      hidden * (2.0 * config.q_size() + 2.0 * config.kv_size());
  const double num_matrices = config.mlp == MlpType::kSiluGated ? 3 : 2;
  const MoeConfig& moe = config.moe;
  const double experts =
      1.0 * num_experts * moe.intermediate_size + moe.shared_intermediate_size;
  double columns = 0;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    columns += moe.is_sparse(layer) ? experts : 1.0 * config.intermediate_size;
  }
  return config.num_layers * attention + num_matrices * hidden * columns +
         hidden * static_cast<double>(config.vocab_size);
}

double NumEmbeddings(const ModelConfig& config) {
  return config.tied_embeddings ? 0
                                : 1.0 * config.hidden_size * config.vocab_size;
}

}  // namespace

absl::Status PutModel(const ModelConfig& config, int32_t num_ranks,
                      double memory_utilization, CostModel* cost) {
  QUIRE_RETURN_IF_ERROR(config.CheckTensorParallel(num_ranks));
  if (cost->memory_bytes <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(cost->name, " does not say device.memory_bytes"));
  }
  // A batch of any size meets every expert, a token only its own.
  const double gemm_weights = NumGemmWeights(config, config.moe.num_experts);
  const double token_weights = NumGemmWeights(config, config.moe.top_k);
  cost->num_layers = config.num_layers;
  cost->hidden_size = config.hidden_size;
  cost->weight_bytes = kBytes * gemm_weights / num_ranks;
  cost->gemm_flops = 2 * token_weights / num_ranks;
  cost->attention_flops = 4.0 * config.q_size() * config.num_layers / num_ranks;
  const double kv_heads =
      std::max(1.0, static_cast<double>(config.num_kv_heads) / num_ranks);
  cost->kv_bytes_per_token =
      2 * kBytes * kv_heads * config.head_dim * config.num_layers;
  const double resident_bytes =
      cost->weight_bytes + kBytes * NumEmbeddings(config) / num_ranks;
  cost->kv_slots = 0;
  cost->kv_bytes = memory_utilization * cost->memory_bytes - resident_bytes -
                   kActivationBytes;
  if (cost->kv_bytes < cost->kv_bytes_per_token * 256) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights of ", resident_bytes / 1e9,
                     " GB leave no room for a cache in ",
                     memory_utilization * cost->memory_bytes / 1e9, " GB"));
  }
  cost->num_ranks = num_ranks;
  if (num_ranks > 1) {
    cost->all_reduce_s = kAllReduceSeconds;
    cost->all_reduce_bandwidth = kAllReduceBandwidth;
  }
  // Fitted for another model's Python.
  cost->host_step_s = 0;
  cost->host_sequence_s = 0;
  return absl::OkStatus();
}

}  // namespace quire
