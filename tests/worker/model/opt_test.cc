// SPDX-License-Identifier: Apache-2.0
#include "worker/model/opt.h"

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

std::string ConfigOf(const std::string& more = "") {
  return absl::StrCat(R"({"architectures": ["OPTForCausalLM"],
      "num_hidden_layers": 1, "hidden_size": 8, "ffn_dim": 6,
      "num_attention_heads": 2, "vocab_size": 10,
      "max_position_embeddings": 16)",
                      more, "}");
}

TEST(OptTest, AsksForItsPublishedTensors) {
  const TensorSet expected = ExpectedOf(ConfigOf());
  const std::string decoder = "model.decoder.";
  const std::string layer = decoder + "layers.0.";
  EXPECT_THAT(
      Described(expected),
      UnorderedElementsAre(decoder + "embed_tokens.weight 10x8",
                           // The first two rows are never read.
                           decoder + "embed_positions.weight 18x8",
                           decoder + "final_layer_norm.weight 8",
                           decoder + "final_layer_norm.bias 8",
                           layer + "self_attn_layer_norm.weight 8",
                           layer + "self_attn_layer_norm.bias 8",
                           layer + "self_attn.q_proj.weight 8x8",
                           layer + "self_attn.q_proj.bias 8",
                           layer + "self_attn.k_proj.weight 8x8",
                           layer + "self_attn.k_proj.bias 8",
                           layer + "self_attn.v_proj.weight 8x8",
                           layer + "self_attn.v_proj.bias 8",
                           layer + "self_attn.out_proj.weight 8x8",
                           layer + "self_attn.out_proj.bias 8",
                           layer + "final_layer_norm.weight 8",
                           layer + "final_layer_norm.bias 8",
                           layer + "fc1.weight 6x8", layer + "fc1.bias 6",
                           layer + "fc2.weight 8x6", layer + "fc2.bias 8"));
  EXPECT_THAT(expected.prefixes, Contains("decoder."));
  EXPECT_THAT(expected.unused_suffixes, Contains("lm_head.weight"));
}

TEST(OptTest, NarrowEmbeddingsAreProjectedBothWays) {
  const auto names = Described(ExpectedOf(ConfigOf(
      R"(, "word_embed_proj_dim": 4, "do_layer_norm_before": false)")));
  EXPECT_THAT(names, IsSupersetOf({"model.decoder.embed_tokens.weight 10x4",
                                   "model.decoder.project_in.weight 8x4",
                                   "model.decoder.project_out.weight 4x8"}));
  // Norms after the sublayers leave none for the end.
  EXPECT_THAT(names, Not(Contains("model.decoder.final_layer_norm.weight 8")));
}

TEST(OptTest, AHeadOfItsOwnIsAskedForAtTheEmbeddingsWidth) {
  EXPECT_THAT(
      Described(ExpectedOf(ConfigOf(
          R"(, "word_embed_proj_dim": 4, "tie_word_embeddings": false)"))),
      Contains("lm_head.weight 10x4"));
}

}  // namespace
}  // namespace quire
