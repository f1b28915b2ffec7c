// SPDX-License-Identifier: Apache-2.0
//
// The steps that decoder-only transformers are made of, on one rank: each is a
// few backend operations and, where ranks meet, an all-reduce.
#ifndef WORKER_MODEL_DECODER_OPS_H_
#define WORKER_MODEL_DECODER_OPS_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/model_config.h"
#include "kernels/backend.h"
#include "worker/collective/collective.h"
#include "worker/model/activations.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/model.h"
#include "worker/model/rank_shape.h"

namespace quire {

// What becomes of a sublayer's sum: the norm of it and the product that reads
// that, so that backends may fold the one into the other. Null: not known.
struct NextNorm {
  const NormWeights* norm = nullptr;
  const Linear* reader = nullptr;
};

// Owns the activations; borrows backend and collective. Hidden states travel
// through three buffers: `residual` is the running sum, `normed` the input of
// the next sublayer, `partial` the sublayer's output, not yet in the sum: what
// takes it sums it over the ranks, with the addition and the norm where that
// is one operation. A step begins with Embed().
// Thread-compatible.
class DecoderOps {
 public:
  static absl::StatusOr<std::unique_ptr<DecoderOps>> Create(
      const ModelConfig& config, const StepLimits& limits, Backend& backend,
      Collective& collective);

  const RankShape& shape() const { return shape_; }
  const Activations& activations() const { return activations_; }
  const ModelConfig& config() const { return config_; }
  KvLayout kv_layout(int32_t block_size) const;

  // CHECKs that the batch is within the limits.
  void CheckBatch(const BatchInput& batch, const KvCache& cache) const;

  // out [T, embedding_size] = the tokens' rows of the whole embedding, of which
  // `table` is this rank's shard.
  absl::Status Embed(const DeviceBuffer& table, const BatchInput& batch,
                     void* out);

  // residual += the rows of `table` for the tokens' positions.
  absl::Status AddPositions(const DeviceBuffer& table, const BatchInput& batch);

  // normed = norm(residual).
  absl::Status NormResidual(const NormWeights& weights, int32_t num_tokens);
  // residual += partial; normed = norm(residual), but for what the products
  // before and behind do of it themselves.
  absl::Status AddNorm(const NormWeights& weights, int32_t num_tokens);
  // residual = norm(residual + partial).
  absl::Status AddNormInPlace(const NormWeights& weights, int32_t num_tokens);
  // residual += partial.
  absl::Status Add(int32_t num_tokens);

  // partial = attention of x [T, hidden_size], over all ranks' heads. Writes
  // the new keys and values. `cos_sin` is null without rotary positions.
  // REQUIRES: AddNorm() by next.norm and its reader come next, if known.
  absl::Status Attention(const DecoderLayer& layer, int32_t layer_idx,
                         const float* cos_sin, const BatchInput& batch,
                         const KvCache& cache, const void* x,
                         const NextNorm& next = {});
  // Its two halves: what this rank's heads attend to, of all tokens, and the
  // product of that.
  absl::Status Attend(const DecoderLayer& layer, int32_t layer_idx,
                      const float* cos_sin, const BatchInput& batch,
                      const KvCache& cache, const void* x);
  absl::Status AttentionOut(const DecoderLayer& layer, int32_t num_tokens,
                            const NextNorm& next = {});
  // Between the two: from here on the step consists of these rows, [R] in
  // device memory, R <= max_num_seqs, of `residual` and of what was attended
  // to, in this order. No later operation may want another row.
  absl::Status KeepRows(const int32_t* rows, int32_t num_rows);
  // partial = MLP of x [T, hidden_size], over all ranks' columns: the layer's
  // mixture of experts, where it has one. REQUIRES: as above.
  absl::Status Mlp(const DecoderLayer& layer, const void* x, int32_t num_tokens,
                   const NextNorm& next = {});

  // sampled [R, hidden_size] = these rows of `residual`, in device memory.
  absl::Status GatherSampled(const int32_t* rows, int32_t num_rows);
  // sampled = norm(sampled).
  absl::Status NormSampled(const NormWeights& weights, int32_t num_samples);
  // sampled = norm(residual + partial), where all rows are sampled.
  absl::Status AddNormSampled(const NormWeights& weights, int32_t num_samples);
  // logits [R, vocab.num_ids] = x head^T; x is [R, head.weight->k()].
  absl::Status Logits(const Linear& head, const void* x, int32_t num_samples);

  // y [m, n] = x w^T + bias with dense rows.
  absl::Status Multiply(const PackedWeight& weight, const DeviceBuffer* bias,
                        const void* x, void* y, DType y_dtype, int32_t m);

 private:
  DecoderOps(const ModelConfig& config, const StepLimits& limits,
             Backend& backend, Collective& collective);

  ActivationKind activation() const;
  void BeginStep();
  absl::Status Norm(const NormWeights& weights, const void* x, DType x_dtype,
                    void* residual, void* out, int32_t num_rows);
  // y [m, n] = x w^T + bias with dense rows; ends the norm of x that the
  // product before began, if it did.
  absl::Status MultiplyNormed(const Linear& linear, const void* x, void* y,
                              int32_t m);
  // mlp_act, `width` columns of this rank's, of x.
  absl::Status MlpIn(const Linear& in, int32_t width, const void* x,
                     int32_t num_tokens);
  // A sublayer's last product, of this rank's columns alone: `partial`, or
  // straight into `residual` where nothing is to be summed in between. Peers
  // may get their copies of `partial` while it is computed.
  absl::Status MultiplyOut(const Linear& out, const void* x, int32_t num_tokens,
                           const NextNorm& next);
  // Lets `product`, into `residual`, begin the norm that follows, if it can.
  void FoldNext(const NextNorm& next, GemmParams* product);
  // The norm that the product before began and the next has to end, or null.
  const FoldedNorm* TakeFolded();
  // `partial` = the experts' and the shared expert's sum, of this rank's
  // columns alone.
  absl::Status Experts(const MoeWeights& moe, const void* x,
                       int32_t num_tokens);
  // Norms each query and key head of `qkv` where it is, if the model does.
  absl::Status NormHeads(const DecoderLayer& layer, int32_t num_tokens);
  // `out` = norm(residual += partial).
  absl::Status AddNormTo(const NormWeights& weights, int32_t num_tokens,
                         void* out);
  NormParams ParamsOf(const NormWeights& weights, const void* x, DType x_dtype,
                      void* residual, void* out, int32_t num_rows) const;
  absl::Status SumOverRanks(void* data, int64_t num_elements, DType dtype);
  // Completes a row-parallel product in `partial`.
  absl::Status SumPartial(int32_t num_tokens);

  const ModelConfig config_;
  const StepLimits limits_;
  const RankShape shape_;
  Backend& backend_;
  Collective& collective_;
  Activations activations_;
  // The step's rows: all that there are, or those that were kept.
  void* residual_ = nullptr;
  const void* attended_ = nullptr;
  // Whether `partial` is this rank's part alone: what takes it sums it over the
  // ranks first, or at once.
  bool is_partial_unsummed_ = false;
  // Whether peers have it already. Only of one that is unsummed.
  bool is_partial_sent_ = false;
  // Whether the last product went straight into `residual`.
  bool is_in_residual_ = false;
  // Whether the norm that follows is in part in `normed` already.
  bool is_norm_begun_ = false;
  FoldedNorm folded_ = {};
};

}  // namespace quire

#endif  // WORKER_MODEL_DECODER_OPS_H_
