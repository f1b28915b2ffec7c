// SPDX-License-Identifier: Apache-2.0
#include "worker/model/decoder_weights.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace quire {
namespace {

std::string WeightOf(const std::string& module) {
  return absl::StrCat(module, ".weight");
}
std::string BiasOf(const std::string& module) {
  return absl::StrCat(module, ".bias");
}

void ExpectLinear(const std::string& module, int64_t rows, int64_t cols,
                  bool bias, std::vector<TensorSpec>* tensors) {
  ExpectMatrix(WeightOf(module), rows, cols, tensors);
  if (bias) ExpectVector(BiasOf(module), rows, tensors);
}

// Rows [first, first + num) of a module's weight and bias.
struct RowPart {
  std::string module;
  int64_t first;
  int64_t num;
};

absl::StatusOr<Linear> LoadColumnParallel(const std::vector<RowPart>& parts,
                                          bool bias, WeightLoader& loader) {
  std::vector<WeightSlice> weights;
  std::vector<WeightSlice> biases;
  for (const RowPart& part : parts) {
    weights.push_back(loader.Rows(WeightOf(part.module), part.first, part.num));
    if (!bias) continue;
    biases.push_back(loader.Rows(BiasOf(part.module), part.first, part.num));
  }
  Linear linear;
  QUIRE_ASSIGN_OR_RETURN(linear.weight, loader.Pack(weights));
  if (bias) {
    QUIRE_ASSIGN_OR_RETURN(linear.bias, loader.Upload(biases));
  }
  return linear;
}

absl::StatusOr<Linear> LoadRowParallel(const std::string& module,
                                       int64_t first_col, int64_t num_cols,
                                       bool bias, WeightLoader& loader) {
  Linear linear;
  QUIRE_ASSIGN_OR_RETURN(
      linear.weight,
      loader.Pack({loader.Cols(WeightOf(module), first_col, num_cols)}));
  if (bias) {
    QUIRE_ASSIGN_OR_RETURN(linear.bias,
                           loader.Upload({loader.Whole(BiasOf(module))}));
  }
  return linear;
}

}  // namespace

void ExpectVector(const std::string& name, int64_t rows,
                  std::vector<TensorSpec>* tensors) {
  tensors->push_back({name, rows, /*cols=*/1, /*is_vector=*/true});
}

void ExpectMatrix(const std::string& name, int64_t rows, int64_t cols,
                  std::vector<TensorSpec>* tensors) {
  tensors->push_back({name, rows, cols, /*is_vector=*/false});
}

void ExpectNorm(const ModelConfig& config, const std::string& name,
                std::vector<TensorSpec>* tensors) {
  if (!config.norm_affine) return;
  ExpectVector(WeightOf(name), config.hidden_size, tensors);
  if (config.norm != NormType::kLayer) return;
  ExpectVector(BiasOf(name), config.hidden_size, tensors);
}

void ExpectLayer(const ModelConfig& config, const LayerNames& names,
                 std::vector<TensorSpec>* tensors) {
  const int64_t hidden = config.hidden_size;
  ExpectNorm(config, names.attention_norm, tensors);
  ExpectLinear(names.q, config.q_size(), hidden, config.attention_bias,
               tensors);
  ExpectLinear(names.k, config.kv_size(), hidden, config.attention_bias,
               tensors);
  ExpectLinear(names.v, config.kv_size(), hidden, config.attention_bias,
               tensors);
  if (config.qk_norm) {
    ExpectVector(WeightOf(names.q_norm), config.head_dim, tensors);
    ExpectVector(WeightOf(names.k_norm), config.head_dim, tensors);
  }
  ExpectLinear(names.attention_out, hidden, config.q_size(),
               config.attention_out_bias, tensors);
  if (!names.mlp_norm.empty()) ExpectNorm(config, names.mlp_norm, tensors);
  for (const std::string& module : names.mlp_in) {
    ExpectLinear(module, config.intermediate_size, hidden, config.mlp_bias,
                 tensors);
  }
  ExpectLinear(names.mlp_out, hidden, config.intermediate_size, config.mlp_bias,
               tensors);
}

absl::StatusOr<NormWeights> LoadNorm(const ModelConfig& config,
                                     const std::string& name,
                                     WeightLoader& loader) {
  NormWeights norm;
  if (!config.norm_affine) return norm;
  QUIRE_ASSIGN_OR_RETURN(norm.weight,
                         loader.Upload({loader.Whole(WeightOf(name))}));
  if (config.norm == NormType::kLayer) {
    QUIRE_ASSIGN_OR_RETURN(norm.bias,
                           loader.Upload({loader.Whole(BiasOf(name))}));
  }
  return norm;
}

absl::StatusOr<DecoderLayer> LoadLayer(const ModelConfig& config,
                                       const RankShape& shape,
                                       const LayerNames& names,
                                       WeightLoader& loader) {
  const bool first_rank = shape.rank == 0;
  const int64_t dim = shape.head_dim;
  const int64_t first_q = shape.first_q_head * dim;
  const int64_t first_kv = shape.first_kv_head * dim;
  DecoderLayer layer;
  QUIRE_ASSIGN_OR_RETURN(layer.attention_norm,
                         LoadNorm(config, names.attention_norm, loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.qkv, LoadColumnParallel({{names.q, first_q, shape.q_size()},
                                     {names.k, first_kv, shape.kv_size()},
                                     {names.v, first_kv, shape.kv_size()}},
                                    config.attention_bias, loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.attention_out,
      LoadRowParallel(names.attention_out, first_q, shape.q_size(),
                      config.attention_out_bias && first_rank, loader));
  if (config.qk_norm) {
    QUIRE_ASSIGN_OR_RETURN(
        layer.q_norm, loader.Upload({loader.Whole(WeightOf(names.q_norm))}));
    QUIRE_ASSIGN_OR_RETURN(
        layer.k_norm, loader.Upload({loader.Whole(WeightOf(names.k_norm))}));
  }
  if (!names.mlp_norm.empty()) {
    QUIRE_ASSIGN_OR_RETURN(layer.mlp_norm,
                           LoadNorm(config, names.mlp_norm, loader));
  }
  std::vector<RowPart> mlp_in;
  for (const std::string& module : names.mlp_in) {
    mlp_in.push_back(
        {module, shape.first_intermediate, shape.num_intermediate});
  }
  QUIRE_ASSIGN_OR_RETURN(layer.mlp_in,
                         LoadColumnParallel(mlp_in, config.mlp_bias, loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.mlp_out, LoadRowParallel(names.mlp_out, shape.first_intermediate,
                                     shape.num_intermediate,
                                     config.mlp_bias && first_rank, loader));
  return layer;
}

}  // namespace quire
