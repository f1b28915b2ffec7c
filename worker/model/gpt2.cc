// SPDX-License-Identifier: Apache-2.0
#include "worker/model/gpt2.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/model/decoder_model.h"
#include "worker/model/decoder_ops.h"
#include "worker/model/decoder_weights.h"

namespace quire {
namespace {

constexpr EndNames kEnds = {.embedding = "transformer.wte.weight",
                            .final_norm = "transformer.ln_f",
                            .head = "lm_head.weight",
                            .positions = "transformer.wpe.weight"};

std::string LayerName(int32_t layer_idx) {
  return absl::StrCat("transformer.h.", layer_idx, ".");
}

TensorSet Expected(const ModelConfig& config) {
  TensorSet expected;
  expected.prefixes = {"transformer.", ""};
  expected.probe = "wte.weight";
  // Masks, which published checkpoints hold.
  expected.unused_suffixes = {".attn.bias", ".attn.masked_bias"};
  std::vector<TensorSpec>* tensors = &expected.tensors;
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const auto linear = [&](const std::string& module, int64_t in, int64_t out) {
    ExpectMatrix(module + ".weight", in, out, tensors);
    ExpectVector(module + ".bias", out, tensors);
  };
  ExpectEnds(config, kEnds, config.max_position, &expected);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = LayerName(i);
    ExpectNorm(config, layer + "ln_1", tensors);
    linear(layer + "attn.c_attn", hidden, 3 * hidden);
    linear(layer + "attn.c_proj", hidden, hidden);
    ExpectNorm(config, layer + "ln_2", tensors);
    linear(layer + "mlp.c_fc", hidden, inner);
    linear(layer + "mlp.c_proj", inner, hidden);
  }
  return expected;
}

// A run of a module's outputs.
struct OutputPart {
  int64_t first;
  int64_t num;
};

absl::StatusOr<Linear> LoadColumnParallel(const std::string& module,
                                          const std::vector<OutputPart>& parts,
                                          WeightLoader& loader) {
  std::vector<WeightSlice> weights, biases;
  for (const OutputPart& part : parts) {
    weights.push_back(WeightLoader::Transposed(
        loader.Cols(module + ".weight", part.first, part.num)));
    biases.push_back(loader.Rows(module + ".bias", part.first, part.num));
  }
  Linear linear;
  QUIRE_ASSIGN_OR_RETURN(linear.weight, loader.Pack(weights));
  QUIRE_ASSIGN_OR_RETURN(linear.bias, loader.Upload(biases));
  return linear;
}

absl::StatusOr<Linear> LoadRowParallel(const std::string& module,
                                       int64_t first_in, int64_t num_in,
                                       bool bias, WeightLoader& loader) {
  Linear linear;
  QUIRE_ASSIGN_OR_RETURN(
      linear.weight, loader.Pack({WeightLoader::Transposed(
                         loader.Rows(module + ".weight", first_in, num_in))}));
  if (bias) {
    QUIRE_ASSIGN_OR_RETURN(linear.bias,
                           loader.Upload({loader.Whole(module + ".bias")}));
  }
  return linear;
}

absl::StatusOr<DecoderLayer> LoadGpt2Layer(const ModelConfig& config,
                                           const RankShape& shape,
                                           int32_t layer_idx,
                                           WeightLoader& loader) {
  const std::string name = LayerName(layer_idx);
  const bool first_rank = shape.rank == 0;
  const int64_t hidden = config.hidden_size;
  const int64_t first = int64_t{shape.first_q_head} * shape.head_dim;
  const int64_t num = shape.q_size();
  DecoderLayer layer;
  QUIRE_ASSIGN_OR_RETURN(layer.attention_norm,
                         LoadNorm(config, name + "ln_1", loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.qkv,
      LoadColumnParallel(
          name + "attn.c_attn",
          {{first, num}, {hidden + first, num}, {2 * hidden + first, num}},
          loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.attention_out,
      LoadRowParallel(name + "attn.c_proj", first, num, first_rank, loader));
  QUIRE_ASSIGN_OR_RETURN(layer.mlp_norm,
                         LoadNorm(config, name + "ln_2", loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.mlp_in,
      LoadColumnParallel(name + "mlp.c_fc",
                         {{shape.first_intermediate, shape.num_intermediate}},
                         loader));
  QUIRE_ASSIGN_OR_RETURN(
      layer.mlp_out,
      LoadRowParallel(name + "mlp.c_proj", shape.first_intermediate,
                      shape.num_intermediate, first_rank, loader));
  return layer;
}

class Gpt2 final : public DecoderModel {
 public:
  Gpt2(std::unique_ptr<DecoderOps> ops, DecoderWeights weights)
      : DecoderModel(std::move(ops), std::move(weights)) {}

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override {
    ops().CheckBatch(batch, cache);
    QUIRE_RETURN_IF_ERROR(
        ops().Embed(*weights().embedding, batch, ops().activations().residual));
    QUIRE_RETURN_IF_ERROR(ops().AddPositions(*weights().positions, batch));
    return RunPreNormLayers(batch, cache);
  }
};

absl::StatusOr<DecoderWeights> LoadWeights(const ModelContext& context,
                                           const RankShape& shape) {
  const ModelConfig& config = context.config;
  QUIRE_ASSIGN_OR_RETURN(
      auto loader, WeightLoader::Create(Expected(config), context.source,
                                        context.backend, context.progress));
  DecoderWeights weights;
  for (int32_t i = 0; i < config.num_layers; ++i) {
    QUIRE_ASSIGN_OR_RETURN(DecoderLayer layer,
                           LoadGpt2Layer(config, shape, i, *loader));
    weights.layers.push_back(std::move(layer));
  }
  QUIRE_RETURN_IF_ERROR(LoadEnds(context, shape, kEnds, *loader, &weights));
  weights.bytes = loader->device_bytes();
  return weights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateGpt2(const ModelContext& context) {
  QUIRE_ASSIGN_OR_RETURN(
      auto ops, DecoderOps::Create(context.config, context.limits,
                                   context.backend, context.collective));
  QUIRE_ASSIGN_OR_RETURN(DecoderWeights weights,
                         LoadWeights(context, ops->shape()));
  return std::make_unique<Gpt2>(std::move(ops), std::move(weights));
}

}  // namespace quire
