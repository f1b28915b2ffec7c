// SPDX-License-Identifier: Apache-2.0
#include "worker/model/phi.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/model/expected_tensors.h"

namespace quire {
namespace {

using ::testing::IsSupersetOf;
using ::testing::UnorderedElementsAre;

std::string ConfigOf(const std::string& more = "") {
  return absl::StrCat(R"({"architectures": ["PhiForCausalLM"],
      "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 6,
      "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 10,
      "partial_rotary_factor": 0.5)",
                      more, "}");
}

TEST(PhiTest, HasOneNormALayerAndABiasOfTheHead) {
  const std::string layer = "model.layers.0.";
  EXPECT_THAT(
      Described(ExpectedOf(ConfigOf())),
      UnorderedElementsAre(
          "model.embed_tokens.weight 10x8", "model.final_layernorm.weight 8",
          "model.final_layernorm.bias 8", "lm_head.weight 10x8",
          "lm_head.bias 10", layer + "input_layernorm.weight 8",
          layer + "input_layernorm.bias 8",
          layer + "self_attn.q_proj.weight 8x8",
          layer + "self_attn.q_proj.bias 8",
          layer + "self_attn.k_proj.weight 4x8",
          layer + "self_attn.k_proj.bias 4",
          layer + "self_attn.v_proj.weight 4x8",
          layer + "self_attn.v_proj.bias 4",
          layer + "self_attn.dense.weight 8x8",
          layer + "self_attn.dense.bias 8", layer + "mlp.fc1.weight 6x8",
          layer + "mlp.fc1.bias 6", layer + "mlp.fc2.weight 8x6",
          layer + "mlp.fc2.bias 8"));
}

TEST(PhiTest, NormsOfHeadsHaveBiases) {
  EXPECT_THAT(Described(ExpectedOf(ConfigOf(R"(, "qk_layernorm": true)"))),
              IsSupersetOf({"model.layers.0.self_attn.q_layernorm.weight 4",
                            "model.layers.0.self_attn.q_layernorm.bias 4",
                            "model.layers.0.self_attn.k_layernorm.bias 4"}));
}

}  // namespace
}  // namespace quire
