// SPDX-License-Identifier: Apache-2.0
//
// Models of random weights, on a backend that folds norms into products and on
// one that does not.
#ifndef TESTS_WORKER_MODEL_FOLD_WORLD_H_
#define TESTS_WORKER_MODEL_FOLD_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "kernels/backend.h"
#include "worker/collective/local.h"
#include "worker/model/model.h"

namespace quire {

// Fields of small Llamas. Hidden rows end within the columns of a sum of
// squares.
inline constexpr char kLlamaFields[] =
    R"(, "hidden_size": 40, "intermediate_size": 24,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "vocab_size": 32, "max_position_embeddings": 512, "sliding_window": null)";

// Of an architecture with further `fields` of its config.json, each behind a
// comma.
ModelConfig ConfigOf(const std::string& architecture, int32_t num_layers,
                     const std::string& fields);

// A model whose norms are unlike each other, with a cache for one sequence.
class FoldWorld {
 public:
  static constexpr int32_t kMaxTokens = 256;

  FoldWorld(const ModelConfig& config, std::unique_ptr<Backend> backend);

  // The logits [num_tokens, vocab_size] of a prompt's tokens.
  std::vector<float> Forward(int32_t num_tokens);
  // Of a prompt of `num_tokens`, those of `sampled`, [S, vocab_size], and
  // behind them those of `asked`, which are asked for afterwards.
  std::vector<float> Forward(int32_t num_tokens,
                             const std::vector<int32_t>& sampled,
                             const std::vector<int32_t>& asked = {});
  Backend& backend() { return *backend_; }

 private:
  void Append(const float* logits, size_t num_rows, std::vector<float>* all);
  const int32_t* Upload(const std::vector<int32_t>& list);

  LocalGroup group_{1};
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<DeviceBuffer> memory_;
  KvCache cache_;
  std::vector<std::unique_ptr<DeviceBuffer>> uploaded_;
};

// The root mean square of a - b over that of b.
double RelativeDifference(const std::vector<float>& a,
                          const std::vector<float>& b);

}  // namespace quire

#endif  // TESTS_WORKER_MODEL_FOLD_WORLD_H_
