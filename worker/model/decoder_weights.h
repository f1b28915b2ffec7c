// SPDX-License-Identifier: Apache-2.0
//
// The weights that decoder-only transformers have in common, as one rank holds
// them, and how to load them under each family's names.
#ifndef WORKER_MODEL_DECODER_WEIGHTS_H_
#define WORKER_MODEL_DECODER_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "kernels/backend.h"
#include "worker/model/rank_shape.h"
#include "worker/weights/weight_loader.h"

namespace quire {

// y = x W^T + b. A row-parallel bias is on rank 0 only, as the ranks' sums are
// added up.
struct Linear {
  std::unique_ptr<PackedWeight> weight;
  std::unique_ptr<DeviceBuffer> bias;  // null: none
  bool is_gated = false;               // [gate; up], by Backend::PackGated()
};

struct NormWeights {
  std::unique_ptr<DeviceBuffer> weight;  // null: ones
  std::unique_ptr<DeviceBuffer> bias;    // null: zeros
};

// A mixture of experts in place of the MLP.
struct MoeWeights {
  // [RouterRows(), hidden_size]: the experts, the shared expert's gate if there
  // is one, zeros; whole on every rank
  std::unique_ptr<PackedWeight> router;
  std::unique_ptr<PackedWeight> experts_in;   // column-parallel [gate; up]
  std::unique_ptr<PackedWeight> experts_out;  // row-parallel
  Linear shared_in;                           // column-parallel [gate; up]
  Linear shared_out;                          // row-parallel
};

struct DecoderLayer {
  NormWeights attention_norm;
  Linear qkv;  // column-parallel, [q; k; v]
  // [head_dim], the same for all heads; nothing unless heads are normed.
  NormWeights q_norm;
  NormWeights k_norm;
  Linear attention_out;  // row-parallel
  NormWeights mlp_norm;
  Linear mlp_in;   // column-parallel, [gate; up] for gated MLPs
  Linear mlp_out;  // row-parallel
  std::unique_ptr<MoeWeights> moe;  // in place of the MLP; null: there is one
};

// Names of a mixture of experts, as above.
struct MoeNames {
  std::string router;
  std::string experts;          // before the number of each
  std::vector<std::string> in;  // behind it; stacked in this order
  std::string out;
  std::vector<std::string> shared_in = {};  // if there is a shared expert
  std::string shared_out = {};
  std::string shared_gate = {};
};

// Names of one layer's modules, without ".weight" and ".bias".
struct LayerNames {
  std::string attention_norm;
  std::string q;
  std::string k;
  std::string v;
  std::string attention_out;
  std::string mlp_norm;             // empty: the MLP reads the attention's norm
  std::vector<std::string> mlp_in;  // stacked in this order
  std::string mlp_out;
  std::string q_norm = {};  // if heads are normed
  std::string k_norm = {};
  std::optional<MoeNames> moe = {};  // in place of mlp_in and mlp_out
};

// Appends what a checkpoint must have for a layer, a norm, a vector, a matrix.
void ExpectLayer(const ModelConfig& config, const LayerNames& names,
                 std::vector<TensorSpec>* tensors);
void ExpectNorm(const ModelConfig& config, const std::string& name,
                std::vector<TensorSpec>* tensors);
void ExpectVector(const std::string& name, int64_t rows,
                  std::vector<TensorSpec>* tensors);
void ExpectMatrix(const std::string& name, int64_t rows, int64_t cols,
                  std::vector<TensorSpec>* tensors);

absl::StatusOr<DecoderLayer> LoadLayer(const ModelConfig& config,
                                       const RankShape& shape,
                                       const LayerNames& names,
                                       WeightLoader& loader);
absl::StatusOr<NormWeights> LoadNorm(const ModelConfig& config,
                                     const std::string& name,
                                     WeightLoader& loader);

}  // namespace quire

#endif  // WORKER_MODEL_DECODER_WEIGHTS_H_
