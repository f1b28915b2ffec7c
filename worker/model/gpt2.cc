// SPDX-License-Identifier: Apache-2.0
#include "worker/model/gpt2.h"

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

constexpr char kEmbedding[] = "transformer.wte.weight";
constexpr char kPositions[] = "transformer.wpe.weight";
constexpr char kFinalNorm[] = "transformer.ln_f";
constexpr char kHead[] = "lm_head.weight";

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
  ExpectMatrix(kEmbedding, config.vocab_size, hidden, tensors);
  ExpectMatrix(kPositions, config.max_position, hidden, tensors);
  for (int32_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = LayerName(i);
    ExpectNorm(config, layer + "ln_1", tensors);
    linear(layer + "attn.c_attn", hidden, 3 * hidden);
    linear(layer + "attn.c_proj", hidden, hidden);
    ExpectNorm(config, layer + "ln_2", tensors);
    linear(layer + "mlp.c_fc", hidden, inner);
    linear(layer + "mlp.c_proj", inner, hidden);
  }
  ExpectNorm(config, kFinalNorm, tensors);
  if (config.tied_embeddings) {
    expected.unused_suffixes.push_back(kHead);
  } else {
    ExpectMatrix(kHead, config.vocab_size, hidden, tensors);
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

struct Gpt2Weights {
  std::unique_ptr<DeviceBuffer> embedding;  // [vocab.num_ids, hidden_size]
  std::unique_ptr<DeviceBuffer> positions;  // [max_position, hidden_size]
  std::vector<DecoderLayer> layers;
  NormWeights final_norm;
  std::unique_ptr<PackedWeight> head;  // [vocab.num_ids, hidden_size]
  int64_t bytes = 0;
};

class Gpt2 final : public Model {
 public:
  Gpt2(std::unique_ptr<DecoderOps> ops, Gpt2Weights weights, Backend& backend)
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
  std::unique_ptr<DecoderOps> ops_;
  Gpt2Weights weights_;
  Backend& backend_;
};

absl::StatusOr<const float*> Gpt2::Forward(const BatchInput& batch,
                                           const KvCache& cache) {
  ops_->CheckBatch(batch, cache);
  const Activations& act = ops_->activations();
  QUIRE_RETURN_IF_ERROR(ops_->Embed(*weights_.embedding, batch, act.residual));
  QUIRE_RETURN_IF_ERROR(backend_.AddRows({.x = act.residual,
                                          .table = weights_.positions->data(),
                                          .indices = batch.positions,
                                          .offset = 0,
                                          .width = ops_->config().hidden_size,
                                          .num_tokens = batch.num_tokens}));
  for (int32_t i = 0; i < static_cast<int32_t>(weights_.layers.size()); ++i) {
    const DecoderLayer& layer = weights_.layers[i];
    QUIRE_RETURN_IF_ERROR(
        i == 0 ? ops_->NormResidual(layer.attention_norm, batch.num_tokens)
               : ops_->AddNorm(layer.attention_norm, batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(ops_->Attention(layer, i, /*cos_sin=*/nullptr, batch,
                                          cache, act.normed));
    QUIRE_RETURN_IF_ERROR(ops_->AddNorm(layer.mlp_norm, batch.num_tokens));
    QUIRE_RETURN_IF_ERROR(ops_->Mlp(layer, act.normed, batch.num_tokens));
  }
  if (batch.num_samples + batch.num_prompt_rows == 0) return act.logits;
  QUIRE_RETURN_IF_ERROR(ops_->Add(batch.num_tokens));
  return Logits(batch.sample_rows, batch.num_samples);
}

absl::StatusOr<const float*> Gpt2::Logits(const int32_t* rows,
                                          int32_t num_rows) {
  const Activations& act = ops_->activations();
  if (num_rows == 0) return act.logits;
  QUIRE_RETURN_IF_ERROR(ops_->GatherSampled(rows, num_rows));
  QUIRE_RETURN_IF_ERROR(
      ops_->NormSampled(weights_.final_norm, num_rows, act.head_input));
  QUIRE_RETURN_IF_ERROR(ops_->Logits(*weights_.head, act.head_input, num_rows));
  return act.logits;
}

absl::StatusOr<Gpt2Weights> LoadWeights(const ModelContext& context,
                                        const RankShape& shape) {
  const ModelConfig& config = context.config;
  QUIRE_ASSIGN_OR_RETURN(
      auto loader, WeightLoader::Create(Expected(config), context.source,
                                        context.backend, context.progress));
  const auto vocab_rows = [&](const char* name) {
    return loader->Rows(name, shape.vocab.first_id, shape.vocab.num_ids);
  };
  Gpt2Weights weights;
  QUIRE_ASSIGN_OR_RETURN(weights.embedding,
                         loader->Upload({vocab_rows(kEmbedding)}));
  QUIRE_ASSIGN_OR_RETURN(weights.positions,
                         loader->Upload({loader->Whole(kPositions)}));
  for (int32_t i = 0; i < config.num_layers; ++i) {
    QUIRE_ASSIGN_OR_RETURN(DecoderLayer layer,
                           LoadGpt2Layer(config, shape, i, *loader));
    weights.layers.push_back(std::move(layer));
  }
  QUIRE_ASSIGN_OR_RETURN(weights.final_norm,
                         LoadNorm(config, kFinalNorm, *loader));
  QUIRE_ASSIGN_OR_RETURN(
      weights.head,
      loader->Pack({vocab_rows(config.tied_embeddings ? kEmbedding : kHead)}));
  weights.bytes = loader->device_bytes();
  return weights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> CreateGpt2(const ModelContext& context) {
  QUIRE_ASSIGN_OR_RETURN(
      auto ops, DecoderOps::Create(context.config, context.limits,
                                   context.backend, context.collective));
  QUIRE_ASSIGN_OR_RETURN(Gpt2Weights weights,
                         LoadWeights(context, ops->shape()));
  return std::make_unique<Gpt2>(std::move(ops), std::move(weights),
                                context.backend);
}

}  // namespace quire
