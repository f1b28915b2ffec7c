// SPDX-License-Identifier: Apache-2.0
#include "worker/model/phi.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/model/decoder_ops.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/rope_buffer.h"

namespace quire {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kFinalNorm[] = "model.final_layernorm";
constexpr char kHead[] = "lm_head.weight";
constexpr char kHeadBias[] = "lm_head.bias";

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
  ExpectMatrix(kEmbedding, config.vocab_size, config.hidden_size,
               &expected.tensors);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    ExpectLayer(config, NamesOf(i), &expected.tensors);
  }
  ExpectNorm(config, kFinalNorm, &expected.tensors);
  if (config.tied_embeddings) {
    expected.unused_suffixes.push_back(kHead);
  } else {
    ExpectMatrix(kHead, config.vocab_size, config.hidden_size,
                 &expected.tensors);
  }
  ExpectVector(kHeadBias, config.vocab_size, &expected.tensors);
  return expected;
}

struct PhiWeights {
  std::unique_ptr<DeviceBuffer> embedding;  // [vocab.num_ids, hidden_size]
  std::unique_ptr<DeviceBuffer> cos_sin;    // [max_model_len, rotary_dim]
  std::vector<DecoderLayer> layers;         // without mlp_norm
  NormWeights final_norm;
  Linear head;  // [vocab.num_ids, hidden_size]
  int64_t bytes = 0;
};

class Phi final : public Model {
 public:
  Phi(std::unique_ptr<DecoderOps> ops, PhiWeights weights)
      : ops_(std::move(ops)), weights_(std::move(weights)) {}

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override;
  absl::StatusOr<const float*> Logits(const int32_t* rows,
                                      int32_t num_rows) override;

  VocabShard vocab_shard() const override { return ops_->shape().vocab; }
  KvLayout kv_layout(int32_t block_size) const override {
    return ops_->kv_layout(block_size);
  }
  int64_t weight_bytes() const override { return weights_.bytes; }
  int64_t activation_bytes() const override {
    return ops_->activations().buffer->bytes();
  }

 private:
  std::unique_ptr<DecoderOps> ops_;
  PhiWeights weights_;
};

absl::StatusOr<const float*> Phi::Forward(const BatchInput& batch,
                                          const KvCache& cache) {
  ops_->CheckBatch(batch, cache);
  const Activations& act = ops_->activations();
  const float* cos_sin = weights_.cos_sin->as<float>();
  QUIRE_RETURN_IF_ERROR(ops_->Embed(*weights_.embedding, batch, act.residual));
  for (int32_t i = 0; i < static_cast<int32_t>(weights_.layers.size()); ++i) {
    const DecoderLayer& layer = weights_.layers[i];
    QUIRE_RETURN_IF_ERROR(
        i == 0 ? ops_->NormResidual(layer.attention_norm, batch.num_tokens)
               : ops_->AddNorm(layer.attention_norm, batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(
        ops_->Attention(layer, i, cos_sin, batch, cache, act.normed));
    QUIRE_RETURN_IF_ERROR(ops_->Add(batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(ops_->Mlp(layer, act.normed, batch.num_tokens));
  }
  if (batch.num_samples + batch.num_prompt_rows == 0) return act.logits;
  QUIRE_RETURN_IF_ERROR(ops_->Add(batch.num_tokens));
  return Logits(batch.sample_rows, batch.num_samples);
}

absl::StatusOr<const float*> Phi::Logits(const int32_t* rows,
                                         int32_t num_rows) {
  const Activations& act = ops_->activations();
  if (num_rows == 0) return act.logits;
  QUIRE_RETURN_IF_ERROR(ops_->GatherSampled(rows, num_rows));
  QUIRE_RETURN_IF_ERROR(
      ops_->NormSampled(weights_.final_norm, num_rows, act.head_input));
  QUIRE_RETURN_IF_ERROR(ops_->Multiply(*weights_.head.weight,
                                       weights_.head.bias.get(), act.head_input,
                                       act.logits, DType::kF32, num_rows));
  return act.logits;
}

absl::StatusOr<PhiWeights> LoadWeights(const ModelContext& context,
                                       const RankShape& shape) {
  const ModelConfig& config = context.config;
  QUIRE_ASSIGN_OR_RETURN(
      auto loader, WeightLoader::Create(Expected(config), context.source,
                                        context.backend, context.progress));
  const auto vocab_rows = [&](const char* name) {
    return loader->Rows(name, shape.vocab.first_id, shape.vocab.num_ids);
  };
  PhiWeights weights;
  QUIRE_ASSIGN_OR_RETURN(weights.embedding,
                         loader->Upload({vocab_rows(kEmbedding)}));
  for (int32_t i = 0; i < config.num_layers; ++i) {
    QUIRE_ASSIGN_OR_RETURN(DecoderLayer layer,
                           LoadLayer(config, shape, NamesOf(i), *loader));
    weights.layers.push_back(std::move(layer));
  }
  QUIRE_ASSIGN_OR_RETURN(weights.final_norm,
                         LoadNorm(config, kFinalNorm, *loader));
  QUIRE_ASSIGN_OR_RETURN(
      weights.head.weight,
      loader->Pack({vocab_rows(config.tied_embeddings ? kEmbedding : kHead)}));
  QUIRE_ASSIGN_OR_RETURN(weights.head.bias,
                         loader->Upload({vocab_rows(kHeadBias)}));
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
  QUIRE_ASSIGN_OR_RETURN(PhiWeights weights,
                         LoadWeights(context, ops->shape()));
  return std::make_unique<Phi>(std::move(ops), std::move(weights));
}

}  // namespace quire
