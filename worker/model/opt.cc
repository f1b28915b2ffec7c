// SPDX-License-Identifier: Apache-2.0
#include "worker/model/opt.h"

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

constexpr char kProjectIn[] = "model.decoder.project_in.weight";
constexpr char kProjectOut[] = "model.decoder.project_out.weight";
constexpr EndNames kEnds = {
    .embedding = "model.decoder.embed_tokens.weight",
    .final_norm = "model.decoder.final_layer_norm",
    .head = "lm_head.weight",
    .positions = "model.decoder.embed_positions.weight"};

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
  ExpectEnds(config, kEnds, NumPositionRows(config), &expected);
  if (IsProjected(config)) {
    ExpectMatrix(kProjectIn, config.hidden_size, config.embedding_size,
                 &expected.tensors);
    ExpectMatrix(kProjectOut, config.embedding_size, config.hidden_size,
                 &expected.tensors);
  }
  for (int32_t i = 0; i < config.num_layers; ++i) {
    ExpectLayer(config, NamesOf(i), &expected.tensors);
  }
  return expected;
}

// Whole on every rank, as they are small; null unless embeddings are narrower
// than hidden states.
struct Projections {
  std::unique_ptr<PackedWeight> in;   // [hidden_size, embedding_size]
  std::unique_ptr<PackedWeight> out;  // [embedding_size, hidden_size]
};

class Opt final : public DecoderModel {
 public:
  Opt(std::unique_ptr<DecoderOps> ops, DecoderWeights weights,
      Projections projections, DType dtype)
      : DecoderModel(std::move(ops), std::move(weights)),
        projections_(std::move(projections)),
        dtype_(dtype) {}

  absl::StatusOr<const float*> Forward(const BatchInput& batch,
                                       const KvCache& cache) override;

 private:
  absl::Status RunHead(int32_t num_rows) override;
  absl::Status Embed(const BatchInput& batch);
  // Leaves the last layer's output in `residual`.
  absl::Status RunPostNormLayers(const BatchInput& batch, const KvCache& cache);

  Projections projections_;
  DType dtype_;
};

absl::StatusOr<const float*> Opt::Forward(const BatchInput& batch,
                                          const KvCache& cache) {
  ops().CheckBatch(batch, cache);
  QUIRE_RETURN_IF_ERROR(Embed(batch));
  if (ops().config().pre_norm) {
    return RunPreNormLayers(batch, cache);
  }
  QUIRE_RETURN_IF_ERROR(RunPostNormLayers(batch, cache));
  return Logits(batch.sample_rows, batch.num_samples);
}

absl::Status Opt::Embed(const BatchInput& batch) {
  const Activations& act = ops().activations();
  if (projections_.in == nullptr) {
    QUIRE_RETURN_IF_ERROR(
        ops().Embed(*weights().embedding, batch, act.residual));
  } else {
    QUIRE_RETURN_IF_ERROR(
        ops().Embed(*weights().embedding, batch, act.embedded));
    QUIRE_RETURN_IF_ERROR(ops().Multiply(*projections_.in, /*bias=*/nullptr,
                                         act.embedded, act.residual, dtype_,
                                         batch.num_tokens));
  }
  return ops().AddPositions(*weights().positions, batch);
}

absl::Status Opt::RunPostNormLayers(const BatchInput& batch,
                                    const KvCache& cache) {
  const void* residual = ops().activations().residual;
  for (int32_t i = 0; i < static_cast<int32_t>(weights().layers.size()); ++i) {
    const DecoderLayer& layer = weights().layers[i];
    QUIRE_RETURN_IF_ERROR(
        ops().Attention(layer, i, cos_sin(), batch, cache, residual));
    QUIRE_RETURN_IF_ERROR(
        ops().AddNormInPlace(layer.attention_norm, batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(ops().Mlp(layer, residual, batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(
        ops().AddNormInPlace(layer.mlp_norm, batch.num_tokens));
  }
  return absl::OkStatus();
}

absl::Status Opt::RunHead(int32_t num_rows) {
  if (projections_.out == nullptr) return DecoderModel::RunHead(num_rows);
  const Activations& act = ops().activations();
  QUIRE_RETURN_IF_ERROR(ops().Multiply(*projections_.out, /*bias=*/nullptr,
                                       act.sampled, act.projected, dtype_,
                                       num_rows));
  return ops().Logits(weights().head, act.projected, num_rows);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateOpt(const ModelContext& context) {
  const ModelConfig& config = context.config;
  QUIRE_ASSIGN_OR_RETURN(
      auto ops, DecoderOps::Create(config, context.limits, context.backend,
                                   context.collective));
  QUIRE_ASSIGN_OR_RETURN(
      auto loader, WeightLoader::Create(Expected(config), context.source,
                                        context.backend, context.progress));
  DecoderWeights weights;
  for (int32_t i = 0; i < config.num_layers; ++i) {
    QUIRE_ASSIGN_OR_RETURN(DecoderLayer layer, LoadLayer(config, ops->shape(),
                                                         NamesOf(i), *loader));
    weights.layers.push_back(std::move(layer));
  }
  QUIRE_RETURN_IF_ERROR(
      LoadEnds(context, ops->shape(), kEnds, *loader, &weights));
  Projections projections;
  if (IsProjected(config)) {
    QUIRE_ASSIGN_OR_RETURN(projections.in,
                           loader->Pack({loader->Whole(kProjectIn)}));
    QUIRE_ASSIGN_OR_RETURN(projections.out,
                           loader->Pack({loader->Whole(kProjectOut)}));
  }
  weights.bytes = loader->device_bytes();
  return std::make_unique<Opt>(std::move(ops), std::move(weights),
                               std::move(projections), context.backend.dtype());
}

}  // namespace quire
