// SPDX-License-Identifier: Apache-2.0
//
// Published-style config.json of every family, and changes of them.
#ifndef TESTS_COMMON_CONFIG_JSON_H_
#define TESTS_COMMON_CONFIG_JSON_H_

#include <ostream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "common/model_config.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace quire::config_json {

using Json = nlohmann::json;

inline Json Llama() {
  return Json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 22,
    "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000, "rms_norm_eps": 1e-05,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2})");
}

inline Json Opt() {
  return Json::parse(R"({
    "architectures": ["OPTForCausalLM"], "num_hidden_layers": 12,
    "hidden_size": 768, "ffn_dim": 3072, "num_attention_heads": 12,
    "vocab_size": 50272, "max_position_embeddings": 2048,
    "word_embed_proj_dim": 768, "bos_token_id": 2, "eos_token_id": 2,
    "pad_token_id": 1})");
}

inline Json Mistral() {
  return Json::parse(R"({
    "architectures": ["MistralForCausalLM"], "num_hidden_layers": 32,
    "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
    "max_position_embeddings": 32768, "sliding_window": 4096})");
}

inline Json Qwen2() {
  return Json::parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 4,
    "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151936, "sliding_window": 1024,
    "max_window_layers": 3, "use_sliding_window": false,
    "max_position_embeddings": 32768, "tie_word_embeddings": true})");
}

inline Json Qwen3() {
  return Json::parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 28,
    "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936,
    "max_position_embeddings": 40960, "attention_bias": false})");
}

inline Json With(Json json, const std::string& field, Json value) {
  json[field] = std::move(value);
  return json;
}

inline ModelConfig Parse(const Json& json, const std::string& generation = "") {
  auto config = ModelConfig::FromJson(json.dump(), generation);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig();
}

inline absl::Status ParseError(const Json& json) {
  return ModelConfig::FromJson(json.dump(), "").status();
}

inline Json Gpt2() {
  return Json::parse(R"({
    "architectures": ["GPT2LMHeadModel"], "n_layer": 12, "n_embd": 768,
    "n_head": 12, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05})");
}

inline Json Phi() {
  return Json::parse(R"({
    "architectures": ["PhiForCausalLM"], "num_hidden_layers": 32,
    "hidden_size": 2560, "intermediate_size": 10240,
    "num_attention_heads": 32, "vocab_size": 51200, "hidden_act": "gelu_new",
    "max_position_embeddings": 2048, "partial_rotary_factor": 0.4,
    "layer_norm_eps": 1e-05, "num_key_value_heads": null})");
}

inline Json Mixtral() {
  return Json::parse(R"({
    "architectures": ["MixtralForCausalLM"], "num_hidden_layers": 32,
    "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
    "max_position_embeddings": 32768, "sliding_window": null,
    "num_local_experts": 8, "num_experts_per_tok": 2})");
}

inline Json Qwen2Moe() {
  return Json::parse(R"({
    "architectures": ["Qwen2MoeForCausalLM"], "num_hidden_layers": 4,
    "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16,
    "num_key_value_heads": 16, "vocab_size": 151936, "sliding_window": 1024,
    "max_window_layers": 3, "use_sliding_window": false,
    "max_position_embeddings": 8192, "num_experts": 60,
    "num_experts_per_tok": 4, "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632, "norm_topk_prob": false,
    "decoder_sparse_step": 1})");
}

inline Json Qwen3Moe() {
  return Json::parse(R"({
    "architectures": ["Qwen3MoeForCausalLM"], "num_hidden_layers": 48,
    "hidden_size": 2048, "intermediate_size": 6144, "head_dim": 128,
    "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 151936,
    "max_position_embeddings": 40960, "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768,
    "norm_topk_prob": true, "mlp_only_layers": [], "decoder_sparse_step": 1})");
}

struct BadField {
  const char* field;
  Json value;
  const char* expected;  // in the message, besides the field's name
};

inline void PrintTo(const BadField& bad, std::ostream* out) {
  *out << bad.field << " = " << bad.value;
}

}  // namespace quire::config_json

#endif  // TESTS_COMMON_CONFIG_JSON_H_
