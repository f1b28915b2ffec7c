// SPDX-License-Identifier: Apache-2.0
#include "worker/model/phi.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/model/decoder_model.h"
#include "worker/model/decoder_ops.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/rope_buffer.h"

namespace quire {
namespace {

constexpr EndNames kEnds = {.embedding = "model.embed_tokens.weight",
                            .final_norm = "model.final_layernorm",
                            .head = "lm_head.weight",
                            .head_bias = "lm_head.bias"};

LayerNames NamesOf(int32_t layer_idx) {
  const std::string layer = absl::StrCat("model.layers.", layer_idx, ".");
  return {.attention_norm = layer + "input_layernorm",
          .q = layer + "self_attn.q_proj",
          .k = layer + "self_attn.k_proj",
          .v = layer + "self_attn.v_proj",
          .attention_out = layer + "self_attn.dense",
          .mlp_norm = {},  // the attention's
          .mlp_in = {layer + "mlp.fc1"},
          .mlp_out = layer + "mlp.fc2",
          .q_norm = layer + "self_attn.q_layernorm",
          .k_norm = layer + "self_attn.k_layernorm"};
}

TensorSet Expected(const ModelConfig& config) {
  TensorSet expected;
  expected.prefixes = {"model.", ""};
  expected.probe = "embed_tokens.weight";
  expected.unused_suffixes = {"rotary_emb.inv_freq"};
  ExpectEnds(config, kEnds, /*num_positions=*/0, &expected);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    ExpectLayer(config, NamesOf(i), &expected.tensors);
  }
  return expected;
}

class Phi final : public DecoderModel {
 public:
  Phi(std::unique_ptr<DecoderOps> ops, DecoderWeights weights)
      : DecoderModel(std::move(ops), std::move(weights)) {}

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override;
};

absl::StatusOr<const float*> Phi::Forward(const BatchInput& batch,
                                          const KvCache& cache) {
  ops().CheckBatch(batch, cache);
  const Activations& act = ops().activations();
  QUIRE_RETURN_IF_ERROR(ops().Embed(*weights().embedding, batch, act.residual));
  for (int32_t i = 0; i < static_cast<int32_t>(weights().layers.size()); ++i) {
    const DecoderLayer& layer = weights().layers[i];
    QUIRE_RETURN_IF_ERROR(
        i == 0 ? ops().NormResidual(layer.attention_norm, batch.num_tokens)
               : ops().AddNorm(layer.attention_norm, batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(
        ops().Attention(layer, i, cos_sin(), batch, cache, act.normed));
    QUIRE_RETURN_IF_ERROR(ops().Add(batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(ops().Mlp(layer, act.normed, batch.num_tokens));
  }
  return AddAndSample(batch);
}

absl::StatusOr<DecoderWeights> LoadWeights(const ModelContext& context,
                                           const RankShape& shape) {
  const ModelConfig& config = context.config;
  QUIRE_ASSIGN_OR_RETURN(
      auto loader, WeightLoader::Create(Expected(config), context.source,
                                        context.backend, context.progress));
  DecoderWeights weights;  // whose layers have no mlp_norm
  for (int32_t i = 0; i < config.num_layers; ++i) {
    QUIRE_ASSIGN_OR_RETURN(DecoderLayer layer,
                           LoadLayer(config, shape, NamesOf(i), *loader));
    weights.layers.push_back(std::move(layer));
  }
  QUIRE_RETURN_IF_ERROR(LoadEnds(context, shape, kEnds, *loader, &weights));
  QUIRE_ASSIGN_OR_RETURN(
      weights.cos_sin,
      UploadRopeTable(config, context.limits.max_model_len, context.backend));
  weights.bytes = loader->device_bytes() + weights.cos_sin->bytes();
  return weights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreatePhi(const ModelContext& context) {
  QUIRE_ASSIGN_OR_RETURN(
      auto ops, DecoderOps::Create(context.config, context.limits,
                                   context.backend, context.collective));
  QUIRE_ASSIGN_OR_RETURN(DecoderWeights weights,
                         LoadWeights(context, ops->shape()));
  return std::make_unique<Phi>(std::move(ops), std::move(weights));
}

}  // namespace quire
