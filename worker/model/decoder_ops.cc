// SPDX-License-Identifier: Apache-2.0
#include "worker/model/decoder_ops.h"

#include <cmath>

#include "absl/memory/memory.h"
#include "common/sparse_attention.h"
#include "common/status_macros.h"
#include "glog/logging.h"

namespace quire {
namespace {

NormKind KindOf(NormType norm) {
  return norm == NormType::kRms ? NormKind::kRms : NormKind::kLayer;
}

const void* DataOf(const std::unique_ptr<DeviceBuffer>& buffer) {
  return buffer == nullptr ? nullptr : buffer->data();
}

// Of dense rows.
GemmParams ProductOf(const PackedWeight& weight, const DeviceBuffer* bias,
                     const void* x, void* y, DType y_dtype, int32_t m) {
  return {.x = x,
          .x_stride = weight.k(),
          .weight = &weight,
          .bias = bias == nullptr ? nullptr : bias->data(),
          .y = y,
          .y_stride = weight.n(),
          .y_dtype = y_dtype,
          .m = m};
}

}  // namespace

absl::StatusOr<std::unique_ptr<DecoderOps>> DecoderOps::Create(
    const ModelConfig& config, const StepLimits& limits, Backend& backend,
    Collective& collective) {
  auto ops =
      absl::WrapUnique(new DecoderOps(config, limits, backend, collective));
  QUIRE_ASSIGN_OR_RETURN(
      ops->activations_,
      AllocateActivations(config, ops->shape_, limits, backend));
  ops->BeginStep();
  return ops;
}

DecoderOps::DecoderOps(const ModelConfig& config, const StepLimits& limits,
                       Backend& backend, Collective& collective)
    : config_(config),
      limits_(limits),
      shape_(MakeRankShape(config, collective.rank(), collective.world_size())),
      backend_(backend),
      collective_(collective) {}

ActivationKind DecoderOps::activation() const {
  switch (config_.mlp) {
    case MlpType::kSiluGated:
      return ActivationKind::kSiluMul;
    case MlpType::kRelu:
      return ActivationKind::kRelu;
    case MlpType::kGelu:
      return ActivationKind::kGelu;
    case MlpType::kGeluTanh:
      return ActivationKind::kGeluTanh;
  }
  LOG(FATAL) << "unknown MLP type " << static_cast<int>(config_.mlp);
}

KvLayout DecoderOps::kv_layout(int32_t block_size) const {
  KvLayout layout = {config_.num_layers, shape_.num_kv_heads, config_.head_dim,
                     block_size, backend_.dtype()};
  layout.has_key_bounds = limits_.sparse_pages > 0;
  layout.order = backend_.kv_order(layout);
  return layout;
}

void DecoderOps::CheckBatch(const BatchInput& batch,
                            const KvCache& cache) const {
  CHECK_LE(batch.num_tokens, limits_.max_num_batched_tokens);
  CHECK_LE(batch.num_seqs, limits_.max_num_seqs);
  CHECK_LE(batch.num_samples, limits_.max_num_seqs);
  CHECK_EQ(cache.layout.num_layers, config_.num_layers);
  CHECK_EQ(cache.layout.num_kv_heads, shape_.num_kv_heads);
  CHECK_EQ(cache.layout.head_dim, config_.head_dim);
}

void DecoderOps::BeginStep() {
  residual_ = activations_.residual;
  attended_ = activations_.attended;
  is_in_residual_ = is_norm_begun_ = false;  // of a step that failed
}

absl::Status DecoderOps::Embed(const DeviceBuffer& table,
                               const BatchInput& batch, void* out) {
  BeginStep();
  QUIRE_RETURN_IF_ERROR(backend_.Embedding({.ids = batch.token_ids,
                                            .table = table.data(),
                                            .out = out,
                                            .first_id = shape_.vocab.first_id,
                                            .num_rows = shape_.vocab.num_ids,
                                            .width = config_.embedding_size,
                                            .num_tokens = batch.num_tokens,
                                            .sampled = batch.sampled}));
  return SumOverRanks(out, int64_t{batch.num_tokens} * config_.embedding_size,
                      backend_.dtype());
}

absl::Status DecoderOps::AddPositions(const DeviceBuffer& table,
                                      const BatchInput& batch) {
  return backend_.AddRows({.x = activations_.residual,
                           .table = table.data(),
                           .indices = batch.positions,
                           .offset = config_.position_offset,
                           .width = config_.hidden_size,
                           .num_tokens = batch.num_tokens});
}

NormParams DecoderOps::ParamsOf(const NormWeights& weights, const void* x,
                                DType x_dtype, void* residual, void* out,
                                int32_t num_rows) const {
  return {.kind = KindOf(config_.norm),
          .x = x,
          .x_dtype = x_dtype,
          .residual = residual,
          .weight = DataOf(weights.weight),
          .bias = DataOf(weights.bias),
          .out = out,
          .epsilon = config_.norm_epsilon,
          .width = config_.hidden_size,
          .num_tokens = num_rows};
}

absl::Status DecoderOps::Norm(const NormWeights& weights, const void* x,
                              DType x_dtype, void* residual, void* out,
                              int32_t num_rows) {
  return backend_.Norm(ParamsOf(weights, x, x_dtype, residual, out, num_rows));
}

absl::Status DecoderOps::AddNormTo(const NormWeights& weights,
                                   int32_t num_tokens, void* out) {
  if (is_in_residual_) {
    is_in_residual_ = false;
    if (is_norm_begun_) {
      DCHECK(out == folded_.out && DataOf(weights.weight) == folded_.weight);
      return absl::OkStatus();
    }
    return Norm(weights, residual_, backend_.dtype(),
                /*residual=*/nullptr, out, num_tokens);
  }
  const NormParams params =
      ParamsOf(weights, activations_.partial, backend_.partial_dtype(),
               residual_, out, num_tokens);
  if (is_partial_unsummed_) {
    QUIRE_ASSIGN_OR_RETURN(
        const bool is_done,
        is_partial_sent_ ? collective_.SumSentNorm(params, backend_.dtype())
                         : collective_.AllReduceNorm(params, backend_.dtype()));
    if (is_done) {
      is_partial_unsummed_ = is_partial_sent_ = false;
      return absl::OkStatus();
    }
    QUIRE_RETURN_IF_ERROR(SumPartial(num_tokens));
  }
  return backend_.Norm(params);
}

absl::Status DecoderOps::NormResidual(const NormWeights& weights,
                                      int32_t num_tokens) {
  return Norm(weights, residual_, backend_.dtype(),
              /*residual=*/nullptr, activations_.normed, num_tokens);
}

absl::Status DecoderOps::AddNorm(const NormWeights& weights,
                                 int32_t num_tokens) {
  return AddNormTo(weights, num_tokens, activations_.normed);
}

absl::Status DecoderOps::AddNormInPlace(const NormWeights& weights,
                                        int32_t num_tokens) {
  return AddNormTo(weights, num_tokens, residual_);
}

absl::Status DecoderOps::AddNormSampled(const NormWeights& weights,
                                        int32_t num_samples) {
  return AddNormTo(weights, num_samples, activations_.sampled);
}

absl::Status DecoderOps::Add(int32_t num_tokens) {
  if (is_in_residual_) {
    is_in_residual_ = false;
    return absl::OkStatus();
  }
  QUIRE_RETURN_IF_ERROR(SumPartial(num_tokens));
  return backend_.Add({.a = activations_.partial,
                       .a_dtype = backend_.partial_dtype(),
                       .b = residual_,
                       .out = residual_,
                       .n = int64_t{num_tokens} * config_.hidden_size});
}

absl::Status DecoderOps::NormHeads(const DecoderLayer& layer,
                                   int32_t num_tokens) {
  if (!config_.qk_norm) return absl::OkStatus();
  const auto norm = [&](const NormWeights& weights, int64_t first,
                        int32_t num_heads) {
    char* heads =
        static_cast<char*>(activations_.qkv) + first * SizeOf(backend_.dtype());
    return backend_.Norm(
        {.kind = KindOf(config_.norm),
         .x = heads,
         .x_dtype = backend_.dtype(),
         .residual = nullptr,
         .weight = DataOf(weights.weight),
         .bias = DataOf(weights.bias),
         .out = heads,
         .epsilon = config_.norm_epsilon,
         .width = config_.head_dim,
         .num_tokens = num_tokens * num_heads,
         .rows_per_group = num_heads,
         .group_stride = shape_.q_size() + 2 * shape_.kv_size()});
  };
  QUIRE_RETURN_IF_ERROR(norm(layer.q_norm, 0, shape_.num_q_heads));
  return norm(layer.k_norm, shape_.q_size(), shape_.num_kv_heads);
}

absl::Status DecoderOps::Attention(const DecoderLayer& layer, int32_t layer_idx,
                                   const float* cos_sin,
                                   const BatchInput& batch,
                                   const KvCache& cache, const void* x,
                                   const NextNorm& next) {
  QUIRE_RETURN_IF_ERROR(Attend(layer, layer_idx, cos_sin, batch, cache, x));
  return AttentionOut(layer, batch.num_tokens, next);
}

absl::Status DecoderOps::Attend(const DecoderLayer& layer, int32_t layer_idx,
                                const float* cos_sin, const BatchInput& batch,
                                const KvCache& cache, const void* x) {
  const KvCacheView view = {cache.base, cache.layout, layer_idx,
                            cache.num_blocks};
  const int64_t stride = shape_.q_size() + 2 * shape_.kv_size();
  QUIRE_RETURN_IF_ERROR(
      MultiplyNormed(layer.qkv, x, activations_.qkv, batch.num_tokens));
  QUIRE_RETURN_IF_ERROR(NormHeads(layer, batch.num_tokens));
  const bool is_sparse =
      batch.sparse.first_positions != nullptr && layer_idx >= kFirstSparseLayer;
  return backend_.AttendNewTokens(
      {.write = {.qkv = activations_.qkv,
                 .qkv_stride = stride,
                 .cos_sin = cos_sin,
                 .positions = batch.positions,
                 .slot_mapping = batch.slot_mapping,
                 .cache = view,
                 .rotary_dim = cos_sin == nullptr ? 0 : config_.rotary_dim,
                 .num_q_heads = shape_.num_q_heads,
                 .num_tokens = batch.num_tokens},
       .attention = {
           .q = activations_.qkv,
           .q_stride = stride,
           .out = activations_.attended,
           .cache = view,
           .block_tables = batch.block_tables,
           .seq_slots = batch.seq_slots,
           .query_start = batch.query_start,
           .context_lens = batch.context_lens,
           .max_blocks_per_seq = batch.max_blocks_per_seq,
           .num_seqs = batch.num_seqs,
           .num_tokens = batch.num_tokens,
           .num_q_heads = shape_.num_q_heads,
           .sliding_window = config_.layer_window(layer_idx),
           .scale = static_cast<float>(1 / std::sqrt(config_.head_dim)),
           .sparse = is_sparse ? batch.sparse : SparseRows{},
           .are_contexts_apart = batch.are_contexts_apart,
           .min_new_tokens = batch.min_new_tokens}});
}

absl::Status DecoderOps::KeepRows(const int32_t* rows, int32_t num_rows) {
  // Queries, keys and values are done with.
  QUIRE_RETURN_IF_ERROR(backend_.GatherRows({.x = attended_,
                                             .rows = rows,
                                             .out = activations_.qkv,
                                             .width = shape_.q_size(),
                                             .num_rows = num_rows}));
  attended_ = activations_.qkv;
  QUIRE_RETURN_IF_ERROR(backend_.GatherRows({.x = residual_,
                                             .rows = rows,
                                             .out = activations_.kept,
                                             .width = config_.hidden_size,
                                             .num_rows = num_rows}));
  residual_ = activations_.kept;
  return absl::OkStatus();
}

absl::Status DecoderOps::AttentionOut(const DecoderLayer& layer,
                                      int32_t num_tokens,
                                      const NextNorm& next) {
  QUIRE_RETURN_IF_ERROR(
      MultiplyOut(layer.attention_out, attended_, num_tokens, next));
  is_partial_unsummed_ = shape_.world_size > 1;
  return absl::OkStatus();
}

absl::Status DecoderOps::Mlp(const DecoderLayer& layer, const void* x,
                             int32_t num_tokens, const NextNorm& next) {
  if (layer.moe != nullptr) {
    QUIRE_RETURN_IF_ERROR(Experts(*layer.moe, x, num_tokens));
  } else {
    QUIRE_RETURN_IF_ERROR(
        MlpIn(layer.mlp_in, shape_.num_intermediate, x, num_tokens));
    QUIRE_RETURN_IF_ERROR(
        MultiplyOut(layer.mlp_out, activations_.mlp_act, num_tokens, next));
  }
  is_partial_unsummed_ = shape_.world_size > 1;
  return absl::OkStatus();
}

absl::Status DecoderOps::MlpIn(const Linear& in, int32_t width, const void* x,
                               int32_t num_tokens) {
  if (in.is_gated) {
    return backend_.GatedGemm({.x = x,
                               .weight = in.weight.get(),
                               .products = activations_.mlp_in,
                               .y = activations_.mlp_act,
                               .m = num_tokens,
                               .norm_before = TakeFolded()});
  }
  QUIRE_RETURN_IF_ERROR(MultiplyNormed(in, x, activations_.mlp_in, num_tokens));
  return backend_.Activation({.kind = activation(),
                              .x = activations_.mlp_in,
                              .out = activations_.mlp_act,
                              .width = width,
                              .num_tokens = num_tokens});
}

absl::Status DecoderOps::MultiplyOut(const Linear& out, const void* x,
                                     int32_t num_tokens, const NextNorm& next) {
  GemmParams product =
      ProductOf(*out.weight, out.bias.get(), x, activations_.partial,
                backend_.partial_dtype(), num_tokens);
  if (shape_.world_size > 1) {
    product.peers = collective_.PeersFor(num_tokens * product.y_stride *
                                         SizeOf(product.y_dtype));
    if (!backend_.CanSend(product)) product.peers = nullptr;
    is_partial_sent_ = product.peers != nullptr;
  } else if (backend_.adds_products()) {
    is_in_residual_ = true;
    product.y = residual_;
    product.y_dtype = backend_.dtype();
    product.adds = true;
    FoldNext(next, &product);
  }
  return backend_.Gemm(product);
}

void DecoderOps::FoldNext(const NextNorm& next, GemmParams* product) {
  if (next.norm == nullptr || next.reader->weight == nullptr ||
      config_.norm != NormType::kRms || next.norm->weight == nullptr ||
      next.norm->bias != nullptr ||
      !backend_.CanFoldNorm(*product, *next.reader->weight,
                            next.reader->is_gated)) {
    return;
  }
  folded_ = {.weight = next.norm->weight->data(),
             .out = activations_.normed,
             .squares = activations_.squares,
             .epsilon = config_.norm_epsilon};
  product->norm_after = &folded_;
  is_norm_begun_ = true;
}

const FoldedNorm* DecoderOps::TakeFolded() {
  if (!is_norm_begun_) return nullptr;
  is_norm_begun_ = false;
  return &folded_;
}

absl::Status DecoderOps::GatherSampled(const int32_t* rows, int32_t num_rows) {
  return backend_.GatherRows({.x = residual_,
                              .rows = rows,
                              .out = activations_.sampled,
                              .width = config_.hidden_size,
                              .num_rows = num_rows});
}

absl::Status DecoderOps::NormSampled(const NormWeights& weights,
                                     int32_t num_samples) {
  return Norm(weights, activations_.sampled, backend_.dtype(),
              /*residual=*/nullptr, activations_.sampled, num_samples);
}

absl::Status DecoderOps::Logits(const Linear& head, const void* x,
                                int32_t num_samples) {
  return Multiply(*head.weight, head.bias.get(), x, activations_.logits,
                  DType::kF32, num_samples);
}

absl::Status DecoderOps::Multiply(const PackedWeight& weight,
                                  const DeviceBuffer* bias, const void* x,
                                  void* y, DType y_dtype, int32_t m) {
  return backend_.Gemm(ProductOf(weight, bias, x, y, y_dtype, m));
}

absl::Status DecoderOps::MultiplyNormed(const Linear& linear, const void* x,
                                        void* y, int32_t m) {
  GemmParams product =
      ProductOf(*linear.weight, linear.bias.get(), x, y, backend_.dtype(), m);
  product.norm_before = TakeFolded();
  return backend_.Gemm(product);
}

absl::Status DecoderOps::SumPartial(int32_t num_tokens) {
  if (!is_partial_unsummed_) return absl::OkStatus();
  is_partial_unsummed_ = false;
  const int64_t num_elements = int64_t{num_tokens} * config_.hidden_size;
  if (is_partial_sent_) {
    is_partial_sent_ = false;
    return collective_.SumSent(activations_.partial, num_elements,
                               backend_.partial_dtype());
  }
  return SumOverRanks(activations_.partial, num_elements,
                      backend_.partial_dtype());
}

absl::Status DecoderOps::SumOverRanks(void* data, int64_t num_elements,
                                      DType dtype) {
  if (shape_.world_size == 1) return absl::OkStatus();
  return collective_.AllReduceSum(data, num_elements, dtype);
}

}  // namespace quire
