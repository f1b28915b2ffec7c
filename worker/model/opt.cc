// SPDX-License-Identifier: Apache-2.0
#include "worker/model/opt.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/model/decoder_ops.h"
#include "worker/model/decoder_weights.h"

namespace quire {
namespace {

constexpr char kEmbedding[] = "model.decoder.embed_tokens.weight";
constexpr char kPositions[] = "model.decoder.embed_positions.weight";
constexpr char kProjectIn[] = "model.decoder.project_in.weight";
constexpr char kProjectOut[] = "model.decoder.project_out.weight";
constexpr char kFinalNorm[] = "model.decoder.final_layer_norm";
constexpr char kHead[] = "lm_head.weight";

LayerNames NamesOf(int32_t layer_idx) {
  const std::string layer =
      absl::StrCat("model.decoder.layers.", layer_idx, ".");
  return {.attention_norm = layer + "self_attn_layer_norm",
          .q = layer + "self_attn.q_proj",
          .k = layer + "self_attn.k_proj",
          .v = layer + "self_attn.v_proj",
          .attention_out = layer + "self_attn.out_proj",
          .mlp_norm = layer + "final_layer_norm",
          .mlp_in = {layer + "fc1"},
          .mlp_out = layer + "fc2"};
}

bool IsProjected(const ModelConfig& config) {
  return config.embedding_size != config.hidden_size;
}

int64_t NumPositionRows(const ModelConfig& config) {
  return int64_t{config.max_position} + config.position_offset;
}

TensorSet Expected(const ModelConfig& config) {
  TensorSet expected;
  expected.prefixes = {"model.decoder.", "decoder.", ""};
  expected.probe = "embed_tokens.weight";
  expected.unused_suffixes = {"decoder.version"};
  ExpectMatrix(kEmbedding, config.vocab_size, config.embedding_size,
               &expected.tensors);
  ExpectMatrix(kPositions, NumPositionRows(config), config.hidden_size,
               &expected.tensors);
  if (IsProjected(config)) {
    ExpectMatrix(kProjectIn, config.hidden_size, config.embedding_size,
                 &expected.tensors);
    ExpectMatrix(kProjectOut, config.embedding_size, config.hidden_size,
                 &expected.tensors);
  }
  for (int32_t i = 0; i < config.num_layers; ++i) {
    ExpectLayer(config, NamesOf(i), &expected.tensors);
  }
  if (config.final_norm) ExpectNorm(config, kFinalNorm, &expected.tensors);
  if (config.tied_embeddings) {
    expected.unused_suffixes.push_back(kHead);
  } else {
    ExpectMatrix(kHead, config.vocab_size, config.embedding_size,
                 &expected.tensors);
  }
  return expected;
}

struct OptWeights {
  std::unique_ptr<DeviceBuffer> embedding;  // [vocab.num_ids, embedding_size]
  std::unique_ptr<DeviceBuffer> positions;  // [max_position + 2, hidden_size]
  // Whole on every rank, as they are small; null unless embeddings are narrower
  // than hidden states.
  std::unique_ptr<PackedWeight> project_in;   // [hidden_size, embedding_size]
  std::unique_ptr<PackedWeight> project_out;  // [embedding_size, hidden_size]
  std::vector<DecoderLayer> layers;
  NormWeights final_norm;
  std::unique_ptr<PackedWeight> head;  // [vocab.num_ids, embedding_size]
  int64_t bytes = 0;
};

class Opt final : public Model {
 public:
  Opt(std::unique_ptr<DecoderOps> ops, OptWeights weights, Backend& backend)
      : ops_(std::move(ops)), weights_(std::move(weights)), backend_(backend) {}

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
  // Each leaves the layer's output in `residual`, or, before norms, in
  // `residual` and `partial` together.
  absl::Status RunPreNorm(int32_t layer_idx, const BatchInput& batch,
                          const KvCache& cache);
  absl::Status RunPostNorm(int32_t layer_idx, const BatchInput& batch,
                           const KvCache& cache);
  absl::Status Embed(const BatchInput& batch);
  absl::Status Head(const int32_t* rows, int32_t num_rows);

  std::unique_ptr<DecoderOps> ops_;
  OptWeights weights_;
  Backend& backend_;
};

absl::StatusOr<const float*> Opt::Forward(const BatchInput& batch,
                                          const KvCache& cache) {
  ops_->CheckBatch(batch, cache);
  QUIRE_RETURN_IF_ERROR(Embed(batch));
  for (int32_t i = 0; i < static_cast<int32_t>(weights_.layers.size()); ++i) {
    QUIRE_RETURN_IF_ERROR(ops_->config().pre_norm
                              ? RunPreNorm(i, batch, cache)
                              : RunPostNorm(i, batch, cache));
  }
  const bool needs_rows = batch.num_samples + batch.num_prompt_rows > 0;
  if (needs_rows && ops_->config().pre_norm) {
    QUIRE_RETURN_IF_ERROR(ops_->Add(batch.num_tokens));
  }
  return Logits(batch.sample_rows, batch.num_samples);
}

absl::StatusOr<const float*> Opt::Logits(const int32_t* rows,
                                         int32_t num_rows) {
  if (num_rows > 0) QUIRE_RETURN_IF_ERROR(Head(rows, num_rows));
  return ops_->activations().logits;
}

absl::Status Opt::Embed(const BatchInput& batch) {
  const Activations& act = ops_->activations();
  if (weights_.project_in == nullptr) {
    QUIRE_RETURN_IF_ERROR(
        ops_->Embed(*weights_.embedding, batch, act.residual));
  } else {
    QUIRE_RETURN_IF_ERROR(
        ops_->Embed(*weights_.embedding, batch, act.embedded));
    QUIRE_RETURN_IF_ERROR(ops_->Multiply(*weights_.project_in, /*bias=*/nullptr,
                                         act.embedded, act.residual,
                                         backend_.dtype(), batch.num_tokens));
  }
  return backend_.AddRows({.x = act.residual,
                           .table = weights_.positions->data(),
                           .indices = batch.positions,
                           .offset = ops_->config().position_offset,
                           .width = ops_->config().hidden_size,
                           .num_tokens = batch.num_tokens});
}

absl::Status Opt::RunPreNorm(int32_t layer_idx, const BatchInput& batch,
                             const KvCache& cache) {
  const DecoderLayer& layer = weights_.layers[layer_idx];
  const void* normed = ops_->activations().normed;
  QUIRE_RETURN_IF_ERROR(
      layer_idx == 0
          ? ops_->NormResidual(layer.attention_norm, batch.num_tokens)
          : ops_->AddNorm(layer.attention_norm, batch.num_tokens));
  QUIRE_RETURN_IF_ERROR(ops_->Attention(layer, layer_idx, /*cos_sin=*/nullptr,
                                        batch, cache, normed));
  QUIRE_RETURN_IF_ERROR(ops_->AddNorm(layer.mlp_norm, batch.num_tokens));
  return ops_->Mlp(layer, normed, batch.num_tokens);
}

absl::Status Opt::RunPostNorm(int32_t layer_idx, const BatchInput& batch,
                              const KvCache& cache) {
  const DecoderLayer& layer = weights_.layers[layer_idx];
  const void* residual = ops_->activations().residual;
  QUIRE_RETURN_IF_ERROR(ops_->Attention(layer, layer_idx, /*cos_sin=*/nullptr,
                                        batch, cache, residual));
  QUIRE_RETURN_IF_ERROR(
      ops_->AddNormInPlace(layer.attention_norm, batch.num_tokens));
  QUIRE_RETURN_IF_ERROR(ops_->Mlp(layer, residual, batch.num_tokens));
  return ops_->AddNormInPlace(layer.mlp_norm, batch.num_tokens);
}

absl::Status Opt::Head(const int32_t* rows, int32_t num_rows) {
  const Activations& act = ops_->activations();
  QUIRE_RETURN_IF_ERROR(ops_->GatherSampled(rows, num_rows));
  if (ops_->config().final_norm) {
    QUIRE_RETURN_IF_ERROR(
        ops_->NormSampled(weights_.final_norm, num_rows, act.sampled));
  }
  const void* x = act.sampled;
  if (weights_.project_out != nullptr) {
    QUIRE_RETURN_IF_ERROR(
        ops_->Multiply(*weights_.project_out, /*bias=*/nullptr, act.sampled,
                       act.head_input, backend_.dtype(), num_rows));
    x = act.head_input;
  }
  return ops_->Logits(*weights_.head, x, num_rows);
}

absl::Status LoadEnds(const ModelConfig& config, const RankShape& shape,
                      WeightLoader& loader, OptWeights* weights) {
  const auto vocab_rows = [&](const char* name) {
    return loader.Rows(name, shape.vocab.first_id, shape.vocab.num_ids);
  };
  QUIRE_ASSIGN_OR_RETURN(weights->embedding,
                         loader.Upload({vocab_rows(kEmbedding)}));
  QUIRE_ASSIGN_OR_RETURN(weights->positions,
                         loader.Upload({loader.Whole(kPositions)}));
  if (IsProjected(config)) {
    QUIRE_ASSIGN_OR_RETURN(weights->project_in,
                           loader.Pack({loader.Whole(kProjectIn)}));
    QUIRE_ASSIGN_OR_RETURN(weights->project_out,
                           loader.Pack({loader.Whole(kProjectOut)}));
  }
  if (config.final_norm) {
    QUIRE_ASSIGN_OR_RETURN(weights->final_norm,
                           LoadNorm(config, kFinalNorm, loader));
  }
  QUIRE_ASSIGN_OR_RETURN(
      weights->head,
      loader.Pack({vocab_rows(config.tied_embeddings ? kEmbedding : kHead)}));
  return absl::OkStatus();
}

absl::StatusOr<OptWeights> LoadWeights(const ModelContext& context,
                                       const RankShape& shape) {
  const ModelConfig& config = context.config;
  QUIRE_ASSIGN_OR_RETURN(
      auto loader, WeightLoader::Create(Expected(config), context.source,
                                        context.backend, context.progress));
  OptWeights weights;
  for (int32_t i = 0; i < config.num_layers; ++i) {
    QUIRE_ASSIGN_OR_RETURN(DecoderLayer layer,
                           LoadLayer(config, shape, NamesOf(i), *loader));
    weights.layers.push_back(std::move(layer));
  }
  QUIRE_RETURN_IF_ERROR(LoadEnds(config, shape, *loader, &weights));
  weights.bytes = loader->device_bytes();
  return weights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateOpt(const ModelContext& context) {
  QUIRE_ASSIGN_OR_RETURN(
      auto ops, DecoderOps::Create(context.config, context.limits,
                                   context.backend, context.collective));
  QUIRE_ASSIGN_OR_RETURN(OptWeights weights,
                         LoadWeights(context, ops->shape()));
  return std::make_unique<Opt>(std::move(ops), std::move(weights),
                               context.backend);
}

}  // namespace quire
