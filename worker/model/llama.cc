// SPDX-License-Identifier: Apache-2.0
#include "worker/model/llama.h"

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
                            .final_norm = "model.norm",
                            .head = "lm_head.weight"};

MoeNames MixtralNames(const std::string& layer) {
  const std::string moe = layer + "block_sparse_moe.";
  return {.router = moe + "gate",
          .experts = moe + "experts.",
          .in = {".w1", ".w3"},
          .out = ".w2"};
}

MoeNames QwenMoeNames(const std::string& layer) {
  const std::string moe = layer + "mlp.";
  return {.router = moe + "gate",
          .experts = moe + "experts.",
          .in = {".gate_proj", ".up_proj"},
          .out = ".down_proj",
          .shared_in = {moe + "shared_expert.gate_proj",
                        moe + "shared_expert.up_proj"},
          .shared_out = moe + "shared_expert.down_proj",
          .shared_gate = moe + "shared_expert_gate"};
}

LayerNames NamesOf(const ModelConfig& config, int32_t layer_idx) {
  const std::string layer = absl::StrCat("model.layers.", layer_idx, ".");
  LayerNames names = {
      .attention_norm = layer + "input_layernorm",
      .q = layer + "self_attn.q_proj",
      .k = layer + "self_attn.k_proj",
      .v = layer + "self_attn.v_proj",
      .attention_out = layer + "self_attn.o_proj",
      .mlp_norm = layer + "post_attention_layernorm",
      .mlp_in = {layer + "mlp.gate_proj", layer + "mlp.up_proj"},
      .mlp_out = layer + "mlp.down_proj",
      .q_norm = layer + "self_attn.q_norm",
      .k_norm = layer + "self_attn.k_norm"};
  if (config.moe.is_sparse(layer_idx)) {
    names.moe = config.architecture == "MixtralForCausalLM"
                    ? MixtralNames(layer)
                    : QwenMoeNames(layer);
  }
  return names;
}

TensorSet Expected(const ModelConfig& config) {
  TensorSet expected;
  expected.prefixes = {"model.", ""};
  expected.probe = "embed_tokens.weight";
  expected.unused_suffixes = {"rotary_emb.inv_freq"};
  ExpectEnds(config, kEnds, /*num_positions=*/0, &expected);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    ExpectLayer(config, NamesOf(config, i), &expected.tensors);
  }
  return expected;
}

class Llama final : public DecoderModel {
 public:
  Llama(std::unique_ptr<DecoderOps> ops, DecoderWeights weights)
      : DecoderModel(std::move(ops), std::move(weights)) {}

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override {
    ops().CheckBatch(batch, cache);
    QUIRE_RETURN_IF_ERROR(
        ops().Embed(*weights().embedding, batch, ops().activations().residual));
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
    QUIRE_ASSIGN_OR_RETURN(
        DecoderLayer layer,
        LoadLayer(config, shape, NamesOf(config, i), *loader));
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

absl::StatusOr<std::unique_ptr<Model>> CreateLlama(
    const ModelContext& context) {
  QUIRE_ASSIGN_OR_RETURN(
      auto ops, DecoderOps::Create(context.config, context.limits,
                                   context.backend, context.collective));
  QUIRE_ASSIGN_OR_RETURN(DecoderWeights weights,
                         LoadWeights(context, ops->shape()));
  return std::make_unique<Llama>(std::move(ops), std::move(weights));
}

}  // namespace quire
