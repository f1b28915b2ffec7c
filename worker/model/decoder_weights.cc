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

// The weight and, for layer norms, the bias of [width].
void ExpectNormOf(const ModelConfig& config, const std::string& name,
                  int64_t width, std::vector<TensorSpec>* tensors) {
  if (!config.norm_affine) return;
  ExpectVector(WeightOf(name), width, tensors);
  if (config.norm != NormType::kLayer) return;
  ExpectVector(BiasOf(name), width, tensors);
}

std::string ExpertOf(const MoeNames& names, int32_t expert,
                     const std::string& module) {
  return absl::StrCat(names.experts, expert, module);
}

void ExpectMoe(const ModelConfig& config, const MoeNames& names,
               std::vector<TensorSpec>* tensors) {
  const MoeConfig& moe = config.moe;
  const int64_t hidden = config.hidden_size;
  ExpectMatrix(WeightOf(names.router), moe.num_experts, hidden, tensors);
  for (int32_t e = 0; e < moe.num_experts; ++e) {
    for (const std::string& module : names.in) {
      ExpectMatrix(WeightOf(ExpertOf(names, e, module)), moe.intermediate_size,
                   hidden, tensors);
    }
    ExpectMatrix(WeightOf(ExpertOf(names, e, names.out)), hidden,
                 moe.intermediate_size, tensors);
  }
  if (moe.shared_intermediate_size == 0) return;
  for (const std::string& module : names.shared_in) {
    ExpectMatrix(WeightOf(module), moe.shared_intermediate_size, hidden,
                 tensors);
  }
  ExpectMatrix(WeightOf(names.shared_out), hidden, moe.shared_intermediate_size,
               tensors);
  ExpectMatrix(WeightOf(names.shared_gate), 1, hidden, tensors);
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

// An MLP's first weight. With a bias its gates are applied on their own.
absl::StatusOr<Linear> LoadMlpIn(const ModelConfig& config,
                                 const std::vector<RowPart>& parts, bool bias,
                                 WeightLoader& loader) {
  if (config.mlp != MlpType::kSiluGated || bias || parts.size() != 2) {
    return LoadColumnParallel(parts, bias, loader);
  }
  const auto slice = [&](const RowPart& part) {
    return loader.Rows(WeightOf(part.module), part.first, part.num);
  };
  Linear linear;
  QUIRE_ASSIGN_OR_RETURN(linear.weight,
                         loader.PackGated(slice(parts[0]), slice(parts[1])));
  linear.is_gated = true;
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
  ExpectNormOf(config, name, config.hidden_size, tensors);
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
    ExpectNormOf(config, names.q_norm, config.head_dim, tensors);
    ExpectNormOf(config, names.k_norm, config.head_dim, tensors);
  }
  ExpectLinear(names.attention_out, hidden, config.q_size(),
               config.attention_out_bias, tensors);
  if (!names.mlp_norm.empty()) ExpectNorm(config, names.mlp_norm, tensors);
  if (names.moe.has_value()) {
    ExpectMoe(config, *names.moe, tensors);
    return;
  }
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

namespace {

absl::StatusOr<std::unique_ptr<MoeWeights>> LoadMoe(const ModelConfig& config,
                                                    const RankShape& shape,
                                                    const MoeNames& names,
                                                    WeightLoader& loader) {
  auto moe = std::make_unique<MoeWeights>();
  std::vector<WeightSlice> router = {loader.Whole(WeightOf(names.router))};
  std::vector<WeightSlice> in, out;
  for (int32_t e = 0; e < config.moe.num_experts; ++e) {
    for (const std::string& module : names.in) {
      in.push_back(loader.Rows(WeightOf(ExpertOf(names, e, module)),
                               shape.first_expert_intermediate,
                               shape.num_expert_intermediate));
    }
    out.push_back(loader.Cols(WeightOf(ExpertOf(names, e, names.out)),
                              shape.first_expert_intermediate,
                              shape.num_expert_intermediate));
  }
  QUIRE_ASSIGN_OR_RETURN(moe->experts_in,
                         loader.PackExperts(in, config.moe.num_experts));
  QUIRE_ASSIGN_OR_RETURN(moe->experts_out,
                         loader.PackExperts(out, config.moe.num_experts));
  if (config.moe.shared_intermediate_size > 0) {
    std::vector<RowPart> shared_in;
    for (const std::string& module : names.shared_in) {
      shared_in.push_back({module, shape.first_shared_intermediate,
                           shape.num_shared_intermediate});
    }
    QUIRE_ASSIGN_OR_RETURN(
        moe->shared_in, LoadMlpIn(config, shared_in, /*bias=*/false, loader));
    QUIRE_ASSIGN_OR_RETURN(
        moe->shared_out,
        LoadRowParallel(names.shared_out, shape.first_shared_intermediate,
                        shape.num_shared_intermediate, /*bias=*/false, loader));
    router.push_back(loader.Whole(WeightOf(names.shared_gate)));
  }
  QUIRE_ASSIGN_OR_RETURN(moe->router, loader.Pack(router, kRouterRowMultiple));
  return moe;
}

// The MLP, or the experts in its place.
absl::Status LoadMlp(const ModelConfig& config, const RankShape& shape,
                     const LayerNames& names, WeightLoader& loader,
                     DecoderLayer* layer) {
  if (names.moe.has_value()) {
    QUIRE_ASSIGN_OR_RETURN(layer->moe,
                           LoadMoe(config, shape, *names.moe, loader));
    return absl::OkStatus();
  }
  std::vector<RowPart> mlp_in;
  for (const std::string& module : names.mlp_in) {
    mlp_in.push_back(
        {module, shape.first_intermediate, shape.num_intermediate});
  }
  QUIRE_ASSIGN_OR_RETURN(layer->mlp_in,
                         LoadMlpIn(config, mlp_in, config.mlp_bias, loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer->mlp_out,
      LoadRowParallel(names.mlp_out, shape.first_intermediate,
                      shape.num_intermediate,
                      config.mlp_bias && shape.rank == 0, loader));
  return absl::OkStatus();
}

}  // namespace

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
    QUIRE_ASSIGN_OR_RETURN(layer.q_norm,
                           LoadNorm(config, names.q_norm, loader));
    QUIRE_ASSIGN_OR_RETURN(layer.k_norm,
                           LoadNorm(config, names.k_norm, loader));
  }
  if (!names.mlp_norm.empty()) {
    QUIRE_ASSIGN_OR_RETURN(layer.mlp_norm,
                           LoadNorm(config, names.mlp_norm, loader));
  }
  QUIRE_RETURN_IF_ERROR(LoadMlp(config, shape, names, loader, &layer));
  return layer;
}

}  // namespace quire
