// SPDX-License-Identifier: Apache-2.0
#include "worker/model/llama.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/model/expected_tensors.h"

namespace quire {
namespace {

using ::testing::Contains;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

std::string ConfigOf(const std::string& architecture,
                     const std::string& more = "") {
  return absl::StrCat(R"({"architectures": [")", architecture, R"("],
      "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 6,
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
      "vocab_size": 10, "sliding_window": null)",
                      more, "}");
}

TEST(LlamaTest, AsksForItsPublishedTensors) {
  const TensorSet expected = ExpectedOf(ConfigOf("LlamaForCausalLM"));
  const std::string layer = "model.layers.0.";
  EXPECT_THAT(Described(expected),
              UnorderedElementsAre("model.embed_tokens.weight 10x8",
                                   "model.norm.weight 8", "lm_head.weight 10x8",
                                   layer + "input_layernorm.weight 8",
                                   layer + "self_attn.q_proj.weight 16x8",
                                   layer + "self_attn.k_proj.weight 8x8",
                                   layer + "self_attn.v_proj.weight 8x8",
                                   layer + "self_attn.o_proj.weight 8x16",
                                   layer + "post_attention_layernorm.weight 8",
                                   layer + "mlp.gate_proj.weight 6x8",
                                   layer + "mlp.up_proj.weight 6x8",
                                   layer + "mlp.down_proj.weight 8x6"));
  EXPECT_THAT(expected.unused_suffixes, Contains("rotary_emb.inv_freq"));
}

TEST(LlamaTest, ATiedHeadMayBeStoredAndIsNotAskedFor) {
  const TensorSet expected = ExpectedOf(
      ConfigOf("LlamaForCausalLM", R"(, "tie_word_embeddings": true)"));
  EXPECT_THAT(Described(expected), Not(Contains("lm_head.weight 10x8")));
  EXPECT_THAT(expected.unused_suffixes, Contains("lm_head.weight"));
}

TEST(LlamaTest, Qwen3HasNormsOfHeads) {
  EXPECT_THAT(Described(ExpectedOf(ConfigOf("Qwen3ForCausalLM"))),
              IsSupersetOf({"model.layers.0.self_attn.q_norm.weight 4",
                            "model.layers.0.self_attn.k_norm.weight 4"}));
}

TEST(LlamaTest, MixtralNamesItsExpertsByNumbers) {
  const auto names = Described(ExpectedOf(
      ConfigOf("MixtralForCausalLM",
               R"(, "num_local_experts": 2, "num_experts_per_tok": 1)")));
  const std::string moe = "model.layers.0.block_sparse_moe.";
  EXPECT_THAT(names, IsSupersetOf({moe + "gate.weight 2x8",
                                   moe + "experts.0.w1.weight 6x8",
                                   moe + "experts.1.w3.weight 6x8",
                                   moe + "experts.1.w2.weight 8x6"}));
  EXPECT_THAT(names, Not(Contains("model.layers.0.mlp.gate_proj.weight 6x8")));
}

TEST(LlamaTest, Qwen2MoeHasASharedExpertAndDenseLayers) {
  const std::string moe_fields =
      R"(, "num_experts": 3, "num_experts_per_tok": 2,
         "moe_intermediate_size": 5, "shared_expert_intermediate_size": 7)";
  const auto names =
      Described(ExpectedOf(ConfigOf("Qwen2MoeForCausalLM", moe_fields)));
  const std::string mlp = "model.layers.0.mlp.";
  EXPECT_THAT(names, IsSupersetOf({mlp + "gate.weight 3x8",
                                   mlp + "experts.2.gate_proj.weight 5x8",
                                   mlp + "experts.2.up_proj.weight 5x8",
                                   mlp + "experts.2.down_proj.weight 8x5",
                                   mlp + "shared_expert.gate_proj.weight 7x8",
                                   mlp + "shared_expert.up_proj.weight 7x8",
                                   mlp + "shared_expert.down_proj.weight 8x7",
                                   mlp + "shared_expert_gate.weight 1x8"}));
  EXPECT_THAT(Described(ExpectedOf(ConfigOf(
                  "Qwen2MoeForCausalLM",
                  absl::StrCat(moe_fields, R"(, "mlp_only_layers": [0])")))),
              IsSupersetOf({mlp + "gate_proj.weight 6x8",
                            mlp + "down_proj.weight 8x6"}));
}

TEST(LlamaTest, Qwen3MoeHasNoSharedExpert) {
  const auto names = Described(ExpectedOf(ConfigOf(
      "Qwen3MoeForCausalLM", R"(, "num_experts": 3, "num_experts_per_tok": 2,
         "moe_intermediate_size": 5)")));
  EXPECT_THAT(names,
              Contains("model.layers.0.mlp.experts.0.up_proj.weight 5x8"));
  EXPECT_THAT(
      names, Not(Contains("model.layers.0.mlp.shared_expert_gate.weight 1x8")));
}

}  // namespace
}  // namespace quire
