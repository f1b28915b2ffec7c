// SPDX-License-Identifier: Apache-2.0
//
// What the families' models have in common: an embedding below, layers, a norm
// and a head on top, and what they are asked about.
#ifndef WORKER_MODEL_DECODER_MODEL_H_
#define WORKER_MODEL_DECODER_MODEL_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/model/decoder_ops.h"
#include "worker/model/decoder_weights.h"
#include "worker/model/model.h"
#include "worker/model/model_context.h"
#include "worker/weights/weight_loader.h"

namespace quire {

struct DecoderWeights {
  std::unique_ptr<DeviceBuffer> embedding;  // [vocab.num_ids, embedding_size]
  // Of learned positions, [., hidden_size], or of rotary ones, [max_model_len,
  // rotary_dim]; null for the other.
  std::unique_ptr<DeviceBuffer> positions;
  std::unique_ptr<DeviceBuffer> cos_sin;
  std::vector<DecoderLayer> layers;
  NormWeights final_norm;  // if the model has one
  Linear head;             // [vocab.num_ids, embedding_size]
  int64_t bytes = 0;
};

// Tensors below and above the layers; norms without ".weight".
struct EndNames {
  const char* embedding;
  const char* final_norm;
  const char* head;                 // unused where embeddings are tied
  const char* head_bias = nullptr;  // null: there is none
  const char* positions = nullptr;  // null: none are learned
};

// Appends what a checkpoint must have at its ends, and loads this rank's part
// of it. `num_positions`: rows of learned positions.
void ExpectEnds(const ModelConfig& config, const EndNames& names,
                int64_t num_positions, TensorSet* expected);
absl::Status LoadEnds(const ModelContext& context, const RankShape& shape,
                      const EndNames& names, WeightLoader& loader,
                      DecoderWeights* weights);

// A model whose head reads the norm of the last layer's sum. Thread-compatible.
class DecoderModel : public Model {
 public:
  VocabShard vocab_shard() const final { return ops_->shape().vocab; }
  KvLayout kv_layout(int32_t block_size) const final {
    return ops_->kv_layout(block_size);
  }
  int64_t weight_bytes() const final { return weights_.bytes; }
  int64_t activation_bytes() const final {
    return ops_->activations().buffer->bytes();
  }

  absl::StatusOr<const float*> Logits(const int32_t* rows,
                                      int32_t num_rows) final;

 protected:
  DecoderModel(std::unique_ptr<DecoderOps> ops, DecoderWeights weights)
      : ops_(std::move(ops)), weights_(std::move(weights)) {}

  DecoderOps& ops() { return *ops_; }
  const DecoderWeights& weights() const { return weights_; }
  const float* cos_sin() const {
    return weights_.cos_sin == nullptr ? nullptr
                                       : weights_.cos_sin->as<float>();
  }

  // Layers with a norm before each sublayer, from `residual` on, and the head.
  // The last layer attends for all tokens, and goes on with those that are
  // sampled: of the others it leaves keys and values. Unless a prompt's rows
  // are asked for, which then are in `residual`.
  absl::StatusOr<const float*> RunPreNormLayers(const BatchInput& batch,
                                                const KvCache& cache);

  // Adds `partial` to `residual`, if any row of it is asked for, and returns
  // the logits of the sampled ones.
  absl::StatusOr<const float*> AddAndSample(const BatchInput& batch);

  // The logits of `sampled`, which the last norm has been through.
  virtual absl::Status RunHead(int32_t num_rows);

 private:
  // Goes on with the batch's sampled rows alone.
  absl::Status KeepSampled(const BatchInput& batch);

  std::unique_ptr<DecoderOps> ops_;
  DecoderWeights weights_;
};

}  // namespace quire

#endif  // WORKER_MODEL_DECODER_MODEL_H_
