// SPDX-License-Identifier: Apache-2.0
#include "common/model_families.h"

#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/config_json.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace config_json;

TEST(ModelFamiliesTest, ReadsLlamaWithItsDefaults) {
  const ModelConfig config = Parse(Llama());
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.dtype, "bfloat16");
  EXPECT_EQ(config.num_layers, 22);
  EXPECT_EQ(config.intermediate_size, 5632);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.q_size(), 2048);
  EXPECT_EQ(config.kv_size(), 256);
  EXPECT_EQ(config.embedding_size, 2048);
  EXPECT_EQ(config.norm, NormType::kRms);
  EXPECT_FLOAT_EQ(config.norm_epsilon, 1e-5f);
  EXPECT_EQ(config.mlp, MlpType::kSiluGated);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_TRUE(config.use_rope);
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kNone);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.pad_token_id, -1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
}

TEST(ModelFamiliesTest, HasAsManyKvHeadsAsQueryHeadsUnlessTold) {
  Json json = Llama();
  json.erase("num_key_value_heads");
  EXPECT_EQ(Parse(json).num_kv_heads, 32);
}

TEST(ModelFamiliesTest, TakesANullFieldForAbsent) {
  Json json = With(Llama(), "head_dim", nullptr);
  json["rope_scaling"] = nullptr;
  json["num_key_value_heads"] = nullptr;
  EXPECT_EQ(Parse(json).head_dim, 64);
  EXPECT_EQ(Parse(json).num_kv_heads, 32);
}

TEST(ModelFamiliesTest, TakesAnExplicitHeadDim) {
  const ModelConfig config = Parse(With(Llama(), "head_dim", 128));
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.q_size(), 4096);
}

TEST(ModelFamiliesTest, ReadsBiasesAndTying) {
  Json json = With(Llama(), "attention_bias", true);
  json["mlp_bias"] = true;
  json["tie_word_embeddings"] = true;
  const ModelConfig config = Parse(json);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_TRUE(config.tied_embeddings);
}

TEST(ModelFamiliesTest, ReadsOptWithItsDefaults) {
  const ModelConfig config = Parse(Opt());
  EXPECT_EQ(config.family, ModelFamily::kOpt);
  EXPECT_EQ(config.dtype, "float32");
  EXPECT_EQ(config.intermediate_size, 3072);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.norm, NormType::kLayer);
  EXPECT_EQ(config.mlp, MlpType::kRelu);
  EXPECT_TRUE(config.pre_norm);
  EXPECT_TRUE(config.final_norm);
  EXPECT_TRUE(config.norm_affine);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_FALSE(config.use_rope);
  EXPECT_EQ(config.position_offset, 2);
  EXPECT_EQ(config.pad_token_id, 1);
}

TEST(ModelFamiliesTest, Opt350mProjectsAndNormsAfterwards) {
  Json json = With(Opt(), "do_layer_norm_before", false);
  json["word_embed_proj_dim"] = 512;
  json["hidden_size"] = 1024;
  json["num_attention_heads"] = 16;
  const ModelConfig config = Parse(json);
  EXPECT_FALSE(config.pre_norm);
  EXPECT_FALSE(config.final_norm);
  EXPECT_EQ(config.embedding_size, 512);
}

TEST(ModelFamiliesTest, OptVariantsAreRead) {
  EXPECT_FALSE(Parse(With(Opt(), "_remove_final_layer_norm", true)).final_norm);
  const ModelConfig bare = Parse(With(Opt(), "enable_bias", false));
  EXPECT_FALSE(bare.attention_bias);
  EXPECT_FALSE(bare.mlp_bias);
  EXPECT_FALSE(
      Parse(With(Opt(), "layer_norm_elementwise_affine", false)).norm_affine);
  EXPECT_FALSE(
      Parse(With(Opt(), "tie_word_embeddings", false)).tied_embeddings);
  EXPECT_EQ(Parse(With(Opt(), "activation_function", "gelu")).mlp,
            MlpType::kGelu);
  EXPECT_EQ(Parse(With(Opt(), "activation_function", "gelu_new")).mlp,
            MlpType::kGeluTanh);
}

TEST(ModelFamiliesTest, MistralsWindowIsEveryLayers) {
  const ModelConfig config = Parse(Mistral());
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.rotary_dim, 128);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.layer_window(0), 4096);
  EXPECT_EQ(config.layer_window(31), 4096);
  EXPECT_EQ(config.sliding_window(), 4096);
  const ModelConfig none = Parse(With(Mistral(), "sliding_window", nullptr));
  EXPECT_EQ(none.layer_window(0), 0);
  EXPECT_EQ(none.sliding_window(), 0);
  Json absent = Mistral();
  absent.erase("sliding_window");
  EXPECT_EQ(Parse(absent).sliding_window(), 4096);
}

TEST(ModelFamiliesTest, Qwen2HasBiasesOfQueriesKeysAndValuesAlone) {
  const ModelConfig config = Parse(Qwen2());
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_FALSE(config.attention_out_bias);
  EXPECT_FALSE(config.mlp_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.sliding_window(), 0);
}

TEST(ModelFamiliesTest, BlocksStayIfOneLayerLooksBackOnAll) {
  const ModelConfig mixed = Parse(With(Qwen2(), "use_sliding_window", true));
  EXPECT_EQ(mixed.layer_window(2), 0);
  EXPECT_EQ(mixed.layer_window(3), 1024);
  EXPECT_EQ(mixed.sliding_window(), 0);
  Json all = With(Qwen2(), "use_sliding_window", true);
  all["max_window_layers"] = 0;
  EXPECT_EQ(Parse(all).sliding_window(), 1024);
  // A list says it layer by layer.
  all["layer_types"] = {"sliding_attention", "full_attention",
                        "sliding_attention", "sliding_attention"};
  EXPECT_EQ(Parse(all).layer_window(1), 0);
  EXPECT_EQ(Parse(all).layer_window(2), 1024);
  all["layer_types"] = Json::array({"sliding_attention"});
  EXPECT_THAT(ParseError(all).message(), HasSubstr("each of the 4 layers"));
  all["layer_types"] = {"linear", "linear", "linear", "linear"};
  EXPECT_THAT(ParseError(all).message(), HasSubstr("\"layer_types\" is"));
  all["layer_types"] = nullptr;
  all["sliding_window"] = 0;
  EXPECT_THAT(ParseError(all).message(), HasSubstr("\"sliding_window\" is 0"));
}

TEST(ModelFamiliesTest, Qwen3NormsHeadsOfAnExplicitSize) {
  const ModelConfig config = Parse(Qwen3());
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.q_size(), 2048);
  EXPECT_TRUE(Parse(With(Qwen3(), "attention_bias", true)).attention_out_bias);
  EXPECT_THAT(ParseError(With(Qwen3(), "head_dim", nullptr)).message(),
              HasSubstr("\"head_dim\" is missing"));
}

TEST(ModelFamiliesTest, ReadsGpt2UnderItsOwnNames) {
  const ModelConfig config = Parse(Gpt2());
  EXPECT_EQ(config.family, ModelFamily::kGpt2);
  EXPECT_EQ(config.num_layers, 12);
  EXPECT_EQ(config.hidden_size, 768);
  EXPECT_EQ(config.embedding_size, 768);
  EXPECT_EQ(config.intermediate_size, 3072);
  EXPECT_EQ(config.num_kv_heads, 12);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.max_position, 1024);
  EXPECT_EQ(config.mlp, MlpType::kGeluTanh);
  EXPECT_EQ(config.norm, NormType::kLayer);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_FALSE(config.use_rope);
  EXPECT_EQ(Parse(With(Gpt2(), "n_inner", 100)).intermediate_size, 100);
}

TEST(ModelFamiliesTest, PhiRotatesAPartOfEachHead) {
  const ModelConfig config = Parse(Phi());
  EXPECT_EQ(config.family, ModelFamily::kPhi);
  EXPECT_EQ(config.head_dim, 80);
  EXPECT_EQ(config.rotary_dim, 32);
  EXPECT_EQ(config.num_kv_heads, 32);
  EXPECT_EQ(config.norm, NormType::kLayer);
  EXPECT_TRUE(config.attention_out_bias);
  Json within = Phi();
  within.erase("partial_rotary_factor");
  EXPECT_EQ(Parse(within).rotary_dim, 40);
  within["rope_parameters"] = {{"rope_theta", 1e4},
                               {"partial_rotary_factor", 0.25}};
  EXPECT_EQ(Parse(within).rotary_dim, 20);
}

class BadFamilyTest
    : public testing::TestWithParam<std::pair<Json (*)(), BadField>> {};

TEST_P(BadFamilyTest, IsRefusedWithTheFieldsName) {
  const auto& [make, bad] = GetParam();
  const absl::Status status = ParseError(With(make(), bad.field, bad.value));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(bad.field));
  EXPECT_THAT(status.message(), HasSubstr(bad.expected));
}

INSTANTIATE_TEST_SUITE_P(
    EachRule, BadFamilyTest,
    testing::Values(
        std::pair(&Gpt2, BadField{"n_layer", nullptr, "missing"}),
        std::pair(&Gpt2, BadField{"n_head", 7, "divisor of n_embd"}),
        std::pair(&Gpt2, BadField{"scale_attn_weights", false, "true"}),
        std::pair(&Gpt2,
                  BadField{"scale_attn_by_inverse_layer_idx", true, "false"}),
        std::pair(&Gpt2, BadField{"activation_function", "swish", "gelu_new"}),
        std::pair(&Phi, BadField{"qk_layernorm", 1, "true or false"}),
        std::pair(&Phi, BadField{"partial_rotary_factor", 0.0, "even number"}),
        std::pair(&Phi,
                  BadField{"partial_rotary_factor", 0.0625, "comes to 5"}),
        std::pair(&Phi, BadField{"intermediate_size", nullptr, "missing"}),
        std::pair(&Mistral, BadField{"sliding_window", -1, "[1, "}),
        std::pair(&Mixtral, BadField{"num_local_experts", nullptr, "missing"}),
        std::pair(&Mixtral, BadField{"num_local_experts", 1025, "[1, 1024]"}),
        std::pair(&Mixtral, BadField{"num_experts_per_tok", 9, "[1, 8]"}),
        std::pair(&Mixtral, BadField{"num_experts_per_tok", nullptr,
                                     "missing, expected an integer"}),
        std::pair(&Qwen2Moe,
                  BadField{"moe_intermediate_size", nullptr, "missing"}),
        std::pair(&Qwen2Moe, BadField{"shared_expert_intermediate_size",
                                      nullptr, "missing"}),
        std::pair(&Qwen2Moe, BadField{"mlp_only_layers", 3, "a list of"}),
        std::pair(&Qwen2Moe,
                  BadField{"mlp_only_layers", Json::array({4}), "[0, 4)"}),
        std::pair(&Qwen3Moe, BadField{"decoder_sparse_step", 0, "[1, "}),
        std::pair(&Qwen3Moe, BadField{"norm_topk_prob", 1, "true or false"}),
        std::pair(&Qwen2, BadField{"use_sliding_window", "yes", "true or"})));

class BadOptTest : public testing::TestWithParam<BadField> {};

TEST_P(BadOptTest, IsRefusedWithTheFieldsName) {
  const BadField& bad = GetParam();
  const absl::Status status = ParseError(With(Opt(), bad.field, bad.value));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(bad.field));
  EXPECT_THAT(status.message(), HasSubstr(bad.expected));
}

INSTANTIATE_TEST_SUITE_P(
    EachRule, BadOptTest,
    testing::Values(BadField{"ffn_dim", 0, "integer"},
                    BadField{"activation_function", "silu", "relu, gelu"},
                    BadField{"word_embed_proj_dim", 0, "integer"},
                    BadField{"do_layer_norm_before", "yes", "true or false"},
                    BadField{"enable_bias", 1, "true or false"}));

TEST(ModelFamiliesTest, EveryArchitectureIsReadByItsOwnName) {
  const std::vector<Json> all = {Llama(),    Mistral(), Mixtral(),  Qwen2(),
                                 Qwen2Moe(), Qwen3(),   Qwen3Moe(), Opt(),
                                 Gpt2(),     Phi()};
  ASSERT_EQ(ModelArchitectures().size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(Parse(all[i]).architecture, ModelArchitectures()[i].name);
  }
}

TEST(ModelFamiliesTest, MixtralsLayersAllHaveExperts) {
  const ModelConfig config = Parse(Mixtral());
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.moe.num_experts, 8);
  EXPECT_EQ(config.moe.top_k, 2);
  EXPECT_EQ(config.moe.intermediate_size, 14336);
  EXPECT_EQ(config.moe.shared_intermediate_size, 0);
  EXPECT_TRUE(config.moe.renormalize);
  EXPECT_TRUE(config.moe.is_sparse(0));
  EXPECT_TRUE(config.moe.is_sparse(31));
  EXPECT_EQ(config.sliding_window(), 0);
  EXPECT_EQ(Parse(With(Mixtral(), "sliding_window", 64)).sliding_window(), 64);
}

TEST(ModelFamiliesTest, Qwen2MoeHasASharedExpert) {
  const ModelConfig config = Parse(Qwen2Moe());
  EXPECT_TRUE(config.attention_bias);
  EXPECT_FALSE(config.attention_out_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_EQ(config.moe.num_experts, 60);
  EXPECT_EQ(config.moe.top_k, 4);
  EXPECT_EQ(config.moe.intermediate_size, 1408);
  EXPECT_EQ(config.moe.shared_intermediate_size, 5632);
  EXPECT_FALSE(config.moe.renormalize);
  EXPECT_FALSE(Parse(With(Qwen2Moe(), "qkv_bias", false)).attention_bias);
}

TEST(ModelFamiliesTest, Qwen2MoesWindowsAreEveryOtherLayers) {
  const ModelConfig config =
      Parse(With(Qwen2Moe(), "use_sliding_window", true));
  EXPECT_THAT(config.layer_windows, ElementsAre(1024, 0, 1024, 0));
}

TEST(ModelFamiliesTest, Qwen3MoeNormsHeads) {
  const ModelConfig config = Parse(Qwen3Moe());
  EXPECT_TRUE(config.qk_norm);
  EXPECT_TRUE(config.moe.renormalize);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.moe.num_experts, 128);
  EXPECT_EQ(config.sliding_window(), 0);
  Json json = With(Qwen3Moe(), "use_sliding_window", true);
  EXPECT_EQ(Parse(With(json, "sliding_window", 512)).sliding_window(), 512);
  // As transformers 5 may write it.
  json = Qwen3Moe();
  json["num_local_experts"] = json["num_experts"];
  json.erase("num_experts");
  EXPECT_EQ(Parse(json).moe.num_experts, 128);
}

TEST(ModelFamiliesTest, SomeLayersStayDense) {
  Json json = With(Qwen2Moe(), "decoder_sparse_step", 2);
  ModelConfig config = Parse(json);
  EXPECT_THAT(config.moe.dense_layers, ElementsAre(true, false, true, false));
  json["mlp_only_layers"] = {1};
  config = Parse(json);
  EXPECT_THAT(config.moe.dense_layers, ElementsAre(true, true, true, false));
  EXPECT_FALSE(config.moe.is_sparse(1));
  EXPECT_TRUE(config.moe.is_sparse(3));
  EXPECT_FALSE(Parse(Llama()).moe.is_sparse(0));
}

TEST(ModelFamiliesTest, PhiMayNormHeads) {
  EXPECT_FALSE(Parse(Phi()).qk_norm);
  EXPECT_TRUE(Parse(With(Phi(), "qk_layernorm", true)).qk_norm);
}

}  // namespace
}  // namespace quire
