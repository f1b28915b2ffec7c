// SPDX-License-Identifier: Apache-2.0
//
// One description for every model family, read from a Hugging Face
// config.json (and generation_config.json for the end-of-sequence ids).
#ifndef COMMON_MODEL_CONFIG_H_
#define COMMON_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ids.h"

namespace quire {

// Llama's has Mistral, Mixtral, Qwen 2 and Qwen 3 and their mixtures of experts
// too: the config says how they differ.
enum class ModelFamily { kLlama, kOpt, kGpt2, kPhi };

enum class NormType { kRms, kLayer };
enum class MlpType { kSiluGated, kRelu, kGelu, kGeluTanh };

// Rotary position embedding (RoFormer, arXiv 2104.09864) and its stretchings.
//
// kDynamic and kLongRope turn by the length of a sequence in transformers, and
// turn every token again when that grows. A cache keeps tokens as they were
// turned, and a sequence must not depend on what else is computed; so the
// length that decides is max_model_len, the longest that any sequence may get.
// That is what transformers computes for sequences of that length (kDynamic),
// or for all sequences on the same side of original_max_position (kLongRope).
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongRope };
  double theta = 10000;
  Scaling scaling = Scaling::kNone;
  double factor = 1;                  // all but kNone
  double low_freq_factor = 1;         // kLlama3
  double high_freq_factor = 4;        // kLlama3
  int32_t original_max_position = 0;  // positions it was trained on; all but
                                      // kNone and kLinear
  // kYarn (arXiv 2309.00071): pairs that turn more than beta_fast times within
  // the trained positions are kept, those that turn less than beta_slow times
  // are slowed by the factor. `truncate`: these borders are whole pairs.
  double beta_fast = 32;
  double beta_slow = 1;
  bool truncate = true;
  // kYarn, kLongRope: of cosines and sines, so that scores are scaled twice.
  double attention_factor = 1;
  // kLongRope (arXiv 2402.13753): what slows each pair of elements, up to
  // original_max_position and beyond. [rotary_dim / 2]
  std::vector<double> short_factors = {};
  std::vector<double> long_factors = {};
};

// A mixture of experts in place of some layers' MLPs (arXiv 2401.04088).
struct MoeConfig {
  int32_t num_experts = 0;               // 0: every MLP is dense
  int32_t top_k = 0;                     // experts of a token
  int32_t intermediate_size = 0;         // of an expert
  int32_t shared_intermediate_size = 0;  // of the one that all tokens have; 0:
                                         // there is none
  bool renormalize = false;              // a token's weights add up to 1
  std::vector<bool> dense_layers;        // [num_layers] with an MLP instead

  bool is_sparse(int32_t layer_idx) const {
    return num_experts > 0 && !dense_layers[layer_idx];
  }
};

struct ModelConfig {
  ModelFamily family = ModelFamily::kLlama;
  std::string architecture;  // "LlamaForCausalLM"
  std::string dtype;         // as stored: "float32", "bfloat16", "float16"

  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;  // of dense MLPs
  int32_t num_q_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;      // elements
  int32_t vocab_size = 0;    // rows of the embedding: the logits' width
  int32_t max_position = 0;  // tokens a sequence may have, unless told more
  // Tokens that it may have at most: rope scaling may reach further, at the
  // cost of turning shorter sequences otherwise too (RopeConfig).
  int32_t max_scaled_position = 0;

  NormType norm = NormType::kRms;
  float norm_epsilon = 1e-5f;
  // Norm before each sublayer (true) or after its residual sum (OPT-350M).
  bool pre_norm = true;
  bool final_norm = true;
  bool norm_affine = true;  // norms have weights (and biases, for kLayer)
  MlpType mlp = MlpType::kSiluGated;
  MoeConfig moe;
  bool attention_bias = false;      // of queries, keys and values
  bool attention_out_bias = false;  // of the product behind attention
  bool qk_norm = false;             // each query and key head has a `norm`
  bool mlp_bias = false;
  bool tied_embeddings = false;
  bool use_rope = true;
  RopeConfig rope;
  int32_t rotary_dim = 0;  // the first elements of a head, which it rotates
  // Tokens that each layer's attention looks back on, the query's own included;
  // 0: all of them. [num_layers], or empty: all, in every layer.
  std::vector<int32_t> layer_windows;
  // OPT: learned positions start at this row of their table.
  int32_t position_offset = 0;
  // OPT-350M: width of token embeddings, projected to and from hidden_size.
  int32_t embedding_size = 0;  // == hidden_size when not projected

  TokenId bos_token_id = -1;  // -1: none
  TokenId pad_token_id = -1;
  std::vector<TokenId> eos_token_ids;

  int32_t q_size() const { return num_q_heads * head_dim; }
  int32_t kv_size() const { return num_kv_heads * head_dim; }

  int32_t layer_window(int32_t layer_idx) const {
    return layer_windows.empty() ? 0 : layer_windows[layer_idx];
  }
  // Tokens that some layer looks back on: of those before, keys and values are
  // of no use any more. 0: a layer looks back on all.
  int32_t sliding_window() const;

  // Parses config.json (and generation_config.json, "" if there is none).
  // InvalidArgument names the field, what was found and what was expected;
  // Unimplemented names an unknown architecture and lists the known ones.
  static absl::StatusOr<ModelConfig> FromJson(
      absl::string_view config_json, absl::string_view generation_json);

  // Reads both files of a model folder. NotFound names the missing file.
  static absl::StatusOr<ModelConfig> FromFolder(const std::string& folder);

  // Whether `tensor_parallel_size` ranks can share the heads, the MLP and the
  // vocabulary evenly; fewer KV heads than ranks are copied to several ranks.
  // InvalidArgument says which does not divide, and the sizes that would.
  absl::Status CheckTensorParallel(int32_t tensor_parallel_size) const;
};

}  // namespace quire

#endif  // COMMON_MODEL_CONFIG_H_
