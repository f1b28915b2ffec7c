// SPDX-License-Identifier: Apache-2.0
#include "worker/model/decoder_model.h"

#include "common/status_macros.h"

namespace quire {

void ExpectEnds(const ModelConfig& config, const EndNames& names,
                int64_t num_positions, TensorSet* expected) {
  std::vector<TensorSpec>* tensors = &expected->tensors;
  ExpectMatrix(names.embedding, config.vocab_size, config.embedding_size,
               tensors);
  if (names.positions != nullptr) {
    ExpectMatrix(names.positions, num_positions, config.hidden_size, tensors);
  }
  if (config.final_norm) ExpectNorm(config, names.final_norm, tensors);
  if (config.tied_embeddings) {
    expected->unused_suffixes.push_back(names.head);
  } else {
    ExpectMatrix(names.head, config.vocab_size, config.embedding_size, tensors);
  }
  if (names.head_bias != nullptr) {
    ExpectVector(names.head_bias, config.vocab_size, tensors);
  }
}

absl::Status LoadEnds(const ModelContext& context, const RankShape& shape,
                      const EndNames& names, WeightLoader& loader,
                      DecoderWeights* weights) {
  const ModelConfig& config = context.config;
  const auto vocab_rows = [&](const char* name) {
    return loader.Rows(name, shape.vocab.first_id, shape.vocab.num_ids);
  };
  QUIRE_ASSIGN_OR_RETURN(weights->embedding,
                         loader.Upload({vocab_rows(names.embedding)}));
  if (names.positions != nullptr) {
    QUIRE_ASSIGN_OR_RETURN(weights->positions,
                           loader.Upload({loader.Whole(names.positions)}));
  }
  if (config.final_norm) {
    QUIRE_ASSIGN_OR_RETURN(weights->final_norm,
                           LoadNorm(config, names.final_norm, loader));
  }
  QUIRE_ASSIGN_OR_RETURN(
      weights->head.weight,
      loader.Pack(
          {vocab_rows(config.tied_embeddings ? names.embedding : names.head)}));
  if (names.head_bias != nullptr) {
    QUIRE_ASSIGN_OR_RETURN(weights->head.bias,
                           loader.Upload({vocab_rows(names.head_bias)}));
  }
  return absl::OkStatus();
}

absl::StatusOr<const float*> DecoderModel::RunPreNormLayers(
    const BatchInput& batch, const KvCache& cache) {
  const Activations& act = ops_->activations();
  const int32_t num_layers = static_cast<int32_t>(weights_.layers.size());
  const bool ends_sampled =
      batch.num_prompt_rows == 0 && ops_->config().final_norm;
  int32_t num_rows = batch.num_tokens;
  for (int32_t i = 0; i < num_layers; ++i) {
    const DecoderLayer& layer = weights_.layers[i];
    NextNorm after_mlp;
    if (i + 1 < num_layers) {
      const DecoderLayer& next = weights_.layers[i + 1];
      after_mlp = {&next.attention_norm, &next.qkv};
    }
    QUIRE_RETURN_IF_ERROR(
        i == 0 ? ops_->NormResidual(layer.attention_norm, num_rows)
               : ops_->AddNorm(layer.attention_norm, num_rows));
    QUIRE_RETURN_IF_ERROR(
        ops_->Attend(layer, i, cos_sin(), batch, cache, act.normed));
    if (i + 1 == num_layers && ends_sampled) {
      if (batch.num_samples == 0) return act.logits;
      QUIRE_RETURN_IF_ERROR(KeepSampled(batch));
      num_rows = batch.num_samples;
    }
    QUIRE_RETURN_IF_ERROR(
        ops_->AttentionOut(layer, num_rows, {&layer.mlp_norm, &layer.mlp_in}));
    QUIRE_RETURN_IF_ERROR(ops_->AddNorm(layer.mlp_norm, num_rows));
    QUIRE_RETURN_IF_ERROR(ops_->Mlp(layer, act.normed, num_rows, after_mlp));
  }
  if (!ends_sampled) return AddAndSample(batch);
  QUIRE_RETURN_IF_ERROR(ops_->AddNormSampled(weights_.final_norm, num_rows));
  QUIRE_RETURN_IF_ERROR(RunHead(num_rows));
  return act.logits;
}

absl::Status DecoderModel::KeepSampled(const BatchInput& batch) {
  // As many as there are tokens are all of them, in their order.
  if (batch.num_samples == batch.num_tokens) return absl::OkStatus();
  return ops_->KeepRows(batch.sample_rows, batch.num_samples);
}

absl::StatusOr<const float*> DecoderModel::AddAndSample(
    const BatchInput& batch) {
  if (batch.num_samples + batch.num_prompt_rows == 0) {
    return ops_->activations().logits;
  }
  QUIRE_RETURN_IF_ERROR(ops_->Add(batch.num_tokens));
  return Logits(batch.sample_rows, batch.num_samples);
}

absl::StatusOr<const float*> DecoderModel::Logits(const int32_t* rows,
                                                  int32_t num_rows) {
  const float* logits = ops_->activations().logits;
  if (num_rows == 0) return logits;
  QUIRE_RETURN_IF_ERROR(ops_->GatherSampled(rows, num_rows));
  if (ops_->config().final_norm) {
    QUIRE_RETURN_IF_ERROR(ops_->NormSampled(weights_.final_norm, num_rows));
  }
  QUIRE_RETURN_IF_ERROR(RunHead(num_rows));
  return logits;
}

absl::Status DecoderModel::RunHead(int32_t num_rows) {
  return ops_->Logits(weights_.head, ops_->activations().sampled, num_rows);
}

}  // namespace quire
