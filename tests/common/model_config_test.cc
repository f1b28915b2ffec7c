// SPDX-License-Identifier: Apache-2.0
#include "common/model_config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

Json Llama() {
  return Json::parse(R"({
    "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 22,
    "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000, "rms_norm_eps": 1e-05,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2})");
}

Json Opt() {
  return Json::parse(R"({
    "architectures": ["OPTForCausalLM"], "num_hidden_layers": 12,
    "hidden_size": 768, "ffn_dim": 3072, "num_attention_heads": 12,
    "vocab_size": 50272, "max_position_embeddings": 2048,
    "word_embed_proj_dim": 768, "bos_token_id": 2, "eos_token_id": 2,
    "pad_token_id": 1})");
}

Json Mistral() {
  return Json::parse(R"({
    "architectures": ["MistralForCausalLM"], "num_hidden_layers": 32,
    "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
    "max_position_embeddings": 32768, "sliding_window": 4096})");
}

Json Qwen2() {
  return Json::parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 4,
    "hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151936, "sliding_window": 1024,
    "max_window_layers": 3, "use_sliding_window": false,
    "max_position_embeddings": 32768, "tie_word_embeddings": true})");
}

Json Qwen3() {
  return Json::parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 28,
    "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936,
    "max_position_embeddings": 40960, "attention_bias": false})");
}

Json With(Json json, const std::string& field, Json value) {
  json[field] = std::move(value);
  return json;
}

ModelConfig Parse(const Json& json, const std::string& generation = "") {
  auto config = ModelConfig::FromJson(json.dump(), generation);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : ModelConfig();
}

absl::Status ParseError(const Json& json) {
  return ModelConfig::FromJson(json.dump(), "").status();
}

TEST(ModelConfigTest, ReadsLlamaWithItsDefaults) {
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

TEST(ModelConfigTest, HasAsManyKvHeadsAsQueryHeadsUnlessTold) {
  Json json = Llama();
  json.erase("num_key_value_heads");
  EXPECT_EQ(Parse(json).num_kv_heads, 32);
}

TEST(ModelConfigTest, TakesANullFieldForAbsent) {
  Json json = With(Llama(), "head_dim", nullptr);
  json["rope_scaling"] = nullptr;
  json["num_key_value_heads"] = nullptr;
  EXPECT_EQ(Parse(json).head_dim, 64);
  EXPECT_EQ(Parse(json).num_kv_heads, 32);
}

TEST(ModelConfigTest, TakesAnExplicitHeadDim) {
  const ModelConfig config = Parse(With(Llama(), "head_dim", 128));
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.q_size(), 4096);
}

TEST(ModelConfigTest, ReadsBiasesAndTying) {
  Json json = With(Llama(), "attention_bias", true);
  json["mlp_bias"] = true;
  json["tie_word_embeddings"] = true;
  const ModelConfig config = Parse(json);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_TRUE(config.mlp_bias);
  EXPECT_TRUE(config.tied_embeddings);
}

TEST(ModelConfigTest, ReadsOldLinearScaling) {
  for (const char* type : {"type", "rope_type"}) {
    Json json = With(Llama(), "rope_theta", 5e5);
    json["rope_scaling"] = {{type, "linear"}, {"factor", 2.5}};
    const ModelConfig config = Parse(json);
    EXPECT_EQ(config.rope.theta, 5e5);
    EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLinear);
    EXPECT_EQ(config.rope.factor, 2.5);
  }
}

Json Llama3Scaling() {
  return {{"rope_type", "llama3"},
          {"factor", 32.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 8192}};
}

TEST(ModelConfigTest, ReadsOldLlama3Scaling) {
  Json json = With(Llama(), "rope_theta", 500000.0);
  json["rope_scaling"] = Llama3Scaling();
  const ModelConfig config = Parse(json);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLlama3);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.rope.factor, 32);
  EXPECT_EQ(config.rope.high_freq_factor, 4);
  EXPECT_EQ(config.rope.original_max_position, 8192);
}

TEST(ModelConfigTest, ReadsRopeParametersWithTheBaseInside) {
  Json parameters = Llama3Scaling();
  parameters["rope_theta"] = 250000.0;
  const ModelConfig config =
      Parse(With(Llama(), "rope_parameters", parameters));
  EXPECT_EQ(config.rope.theta, 250000);
  EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::kLlama3);
  const ModelConfig plain =
      Parse(With(Llama(), "rope_parameters",
                 {{"rope_type", "default"}, {"rope_theta", 1e6}}));
  EXPECT_EQ(plain.rope.theta, 1e6);
  EXPECT_EQ(plain.rope.scaling, RopeConfig::Scaling::kNone);
}

TEST(ModelConfigTest, ReadsOptWithItsDefaults) {
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

TEST(ModelConfigTest, Opt350mProjectsAndNormsAfterwards) {
  Json json = With(Opt(), "do_layer_norm_before", false);
  json["word_embed_proj_dim"] = 512;
  json["hidden_size"] = 1024;
  json["num_attention_heads"] = 16;
  const ModelConfig config = Parse(json);
  EXPECT_FALSE(config.pre_norm);
  EXPECT_FALSE(config.final_norm);
  EXPECT_EQ(config.embedding_size, 512);
}

TEST(ModelConfigTest, OptVariantsAreRead) {
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

TEST(ModelConfigTest, MistralsWindowIsEveryLayers) {
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

TEST(ModelConfigTest, Qwen2HasBiasesOfQueriesKeysAndValuesAlone) {
  const ModelConfig config = Parse(Qwen2());
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_TRUE(config.attention_bias);
  EXPECT_FALSE(config.attention_out_bias);
  EXPECT_FALSE(config.mlp_bias);
  EXPECT_FALSE(config.qk_norm);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.sliding_window(), 0);
}

TEST(ModelConfigTest, BlocksStayIfOneLayerLooksBackOnAll) {
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

TEST(ModelConfigTest, Qwen3NormsHeadsOfAnExplicitSize) {
  const ModelConfig config = Parse(Qwen3());
  EXPECT_TRUE(config.qk_norm);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.q_size(), 2048);
  EXPECT_TRUE(Parse(With(Qwen3(), "attention_bias", true)).attention_out_bias);
  EXPECT_THAT(ParseError(With(Qwen3(), "head_dim", nullptr)).message(),
              HasSubstr("\"head_dim\" is missing"));
}

struct BadField {
  const char* field;
  Json value;
  const char* expected;  // in the message, besides the field's name
};

void PrintTo(const BadField& bad, std::ostream* out) {
  *out << bad.field << " = " << bad.value;
}

Json Gpt2() {
  return Json::parse(R"({
    "architectures": ["GPT2LMHeadModel"], "n_layer": 12, "n_embd": 768,
    "n_head": 12, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257,
    "activation_function": "gelu_new", "layer_norm_epsilon": 1e-05})");
}

TEST(ModelConfigTest, ReadsGpt2UnderItsOwnNames) {
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

Json Phi() {
  return Json::parse(R"({
    "architectures": ["PhiForCausalLM"], "num_hidden_layers": 32,
    "hidden_size": 2560, "intermediate_size": 10240,
    "num_attention_heads": 32, "vocab_size": 51200, "hidden_act": "gelu_new",
    "max_position_embeddings": 2048, "partial_rotary_factor": 0.4,
    "layer_norm_eps": 1e-05, "num_key_value_heads": null})");
}

TEST(ModelConfigTest, PhiRotatesAPartOfEachHead) {
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
        std::pair(&Phi, BadField{"qk_layernorm", true, "false"}),
        std::pair(&Phi, BadField{"partial_rotary_factor", 0.0, "even number"}),
        std::pair(&Phi,
                  BadField{"partial_rotary_factor", 0.0625, "comes to 5"}),
        std::pair(&Phi, BadField{"intermediate_size", nullptr, "missing"}),
        std::pair(&Mistral, BadField{"sliding_window", -1, "[1, "}),
        std::pair(&Qwen2, BadField{"use_sliding_window", "yes", "true or"})));

TEST(ModelConfigTest, NewDtypeFieldWinsOverTheOld) {
  EXPECT_EQ(Parse(With(Llama(), "dtype", "float16")).dtype, "float16");
}

TEST(ModelConfigTest, GenerationConfigDecidesTheEndTokens) {
  const Json json = With(Llama(), "eos_token_id", Json::array({2, 7}));
  EXPECT_THAT(Parse(json).eos_token_ids, ElementsAre(2, 7));
  EXPECT_THAT(Parse(json, R"({"eos_token_id": [5, 6]})").eos_token_ids,
              ElementsAre(5, 6));
  EXPECT_THAT(Parse(json, R"({"temperature": 0.6})").eos_token_ids,
              ElementsAre(2, 7));
  Json none = Llama();
  none.erase("eos_token_id");
  EXPECT_THAT(Parse(none).eos_token_ids, IsEmpty());
}

TEST(ModelConfigTest, PaddingBeyondTheVocabularyIsNone) {
  EXPECT_EQ(Parse(With(Llama(), "pad_token_id", 32000)).pad_token_id, -1);
  EXPECT_EQ(Parse(With(Llama(), "pad_token_id", -1)).pad_token_id, -1);
}

class BadLlamaTest : public testing::TestWithParam<BadField> {};

TEST_P(BadLlamaTest, IsRefusedWithTheFieldsName) {
  const BadField& bad = GetParam();
  const absl::Status status = ParseError(With(Llama(), bad.field, bad.value));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr(bad.field));
  EXPECT_THAT(status.message(), HasSubstr(bad.expected));
}

INSTANTIATE_TEST_SUITE_P(
    EachRule, BadLlamaTest,
    testing::Values(
        BadField{"num_hidden_layers", "22", "is \"22\", expected an integer"},
        BadField{"num_hidden_layers", 0, "[1, 1024]"},
        BadField{"num_hidden_layers", 1025, "[1, 1024]"},
        BadField{"num_hidden_layers", 2.5, "integer"},
        BadField{"num_hidden_layers", nullptr, "missing"},
        BadField{"num_hidden_layers", uint64_t{1} << 63, "[1, 1024]"},
        BadField{"hidden_size", -1, "[1, 1048576]"},
        BadField{"hidden_size", (1 << 20) + 1, "[1, 1048576]"},
        BadField{"hidden_size", 2050, "num_attention_heads"},
        BadField{"intermediate_size", true, "integer"},
        BadField{"vocab_size", 1 << 25, "is 33554432"},
        BadField{"vocab_size", Json::array({1}), "integer"},
        BadField{"num_attention_heads", 0, "integer"},
        BadField{"num_key_value_heads", 5, "divisor"},
        BadField{"num_key_value_heads", 64, "divisor"},
        BadField{"head_dim", 63, "even"},
        BadField{"head_dim", 2048, "[1, 1024]"},
        BadField{"max_position_embeddings", 0, "integer"},
        BadField{"rms_norm_eps", -1e-5, "number"},
        BadField{"rms_norm_eps", "small", "number"},
        BadField{"rope_theta", 0, "number"},
        BadField{"rope_theta", 1e300, "number"},
        BadField{"rope_scaling", "linear", "object"},
        BadField{"rope_scaling", {{"type", "yarn"}}, "default, linear, llama3"},
        BadField{"rope_scaling", {{"type", "linear"}}, "\"factor\" is missing"},
        BadField{"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}, "[1,"},
        BadField{"rope_scaling", {{"type", 3}}, "string"},
        BadField{"rope_parameters",
                 {{"rope_type", "linear"}, {"rope_theta", "x"}},
                 "rope_theta"},
        BadField{"partial_rotary_factor", 0.5, "1 for this"},
        BadField{"hidden_act", "gelu", "silu"},
        BadField{"attention_bias", 1, "true or false"},
        BadField{"mlp_bias", "no", "true or false"},
        BadField{"tie_word_embeddings", 0, "true or false"},
        BadField{"torch_dtype", "float64", "float32, bfloat16, float16"},
        BadField{"eos_token_id", 32000, "[0, 32000)"},
        BadField{"eos_token_id", Json::array({2, "x"}), "[0, 32000)"},
        BadField{"bos_token_id", 1.5, "integer"},
        BadField{"quantization_config", {{"quant_method", "gptq"}}, "\"gptq\""},
        BadField{"quantization_config", Json::array(), "unquantized"},
        BadField{"architectures", Json::array(), "LlamaForCausalLM"},
        BadField{"architectures", "LlamaForCausalLM", "a list"}));

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

TEST(ModelConfigTest, Llama3ScalingNeedsOrderedFactors) {
  Json scaling = Llama3Scaling();
  scaling["high_freq_factor"] = 1.0;
  EXPECT_THAT(ParseError(With(Llama(), "rope_scaling", scaling)).message(),
              HasSubstr("more than low_freq_factor"));
}

TEST(ModelConfigTest, UnknownArchitectureListsTheKnown) {
  const absl::Status status =
      ParseError(With(Llama(), "architectures", Json::array({"GPTJ"})));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("GPTJ"));
  EXPECT_THAT(status.message(),
              HasSubstr("LlamaForCausalLM, MistralForCausalLM, "
                        "Qwen2ForCausalLM, Qwen3ForCausalLM, "
                        "OPTForCausalLM, GPT2LMHeadModel, PhiForCausalLM"));
}

TEST(ModelConfigTest, RefusesWhatIsNotAJsonObject) {
  for (const char* text : {"", "{", "[]", "42", "{\"a\": \"\xff\"}", "\0",
                           "{\"a\": 1} x", "nonsense"}) {
    const absl::Status status = ModelConfig::FromJson(text, "").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(status.message(), HasSubstr("config.json"));
  }
}

TEST(ModelConfigTest, SurvivesDeepNesting) {
  const std::string deep = std::string(100000, '[');
  EXPECT_FALSE(ModelConfig::FromJson(deep, "").ok());
  EXPECT_FALSE(ModelConfig::FromJson(absl::StrCat("{\"a\":", deep), "").ok());
  EXPECT_FALSE(
      ModelConfig::FromJson(
          absl::StrCat("{\"a\":", deep, std::string(100000, ']'), "}"), "")
          .ok());
}

TEST(ModelConfigTest, RefusesABrokenGenerationConfigByItsName) {
  const absl::Status status =
      ModelConfig::FromJson(Llama().dump(), "{\"eos_token_id\": ").status();
  EXPECT_THAT(status.message(), HasSubstr("generation_config.json"));
  EXPECT_THAT(ModelConfig::FromJson(Llama().dump(), R"({"eos_token_id": -1})")
                  .status()
                  .message(),
              HasSubstr("generation_config.json: \"eos_token_id\" is -1"));
}

class ModelFolderTest : public testing::Test {
 protected:
  ModelFolderTest()
      : folder_(absl::StrCat(
            testing::TempDir(), "/",
            testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::create_directories(folder_);
  }
  ~ModelFolderTest() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }

  std::string folder_;
};

TEST_F(ModelFolderTest, ReadsBothFiles) {
  Write("config.json", Llama().dump());
  Write("generation_config.json", R"({"eos_token_id": 9})");
  const auto config = ModelConfig::FromFolder(folder_);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->eos_token_ids, ElementsAre(9));
}

TEST_F(ModelFolderTest, NamesTheMissingFile) {
  const absl::Status status = ModelConfig::FromFolder(folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr(folder_ + "/config.json"));
}

TEST_F(ModelFolderTest, NamesTheFolderOfABadConfig) {
  Write("config.json", With(Llama(), "hidden_size", 0).dump());
  const absl::Status status = ModelConfig::FromFolder(folder_).status();
  EXPECT_THAT(status.message(), HasSubstr(folder_ + "/config.json"));
  EXPECT_THAT(status.message(), HasSubstr("hidden_size"));
}

TEST(TensorParallelTest, AcceptsWhatDivides) {
  const ModelConfig config = Parse(Llama());
  for (int32_t size : {1, 2, 4, 8, 16, 32}) {
    EXPECT_TRUE(config.CheckTensorParallel(size).ok()) << size;
  }
}

TEST(TensorParallelTest, SaysWhichDoesNotDivideAndWhatWould) {
  const ModelConfig config = Parse(Llama());
  const absl::Status status = config.CheckTensorParallel(3);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              HasSubstr("tensor_parallel_size 3 does not divide the query "
                        "heads (32 query heads"));
  EXPECT_THAT(status.message(), HasSubstr("1, 2, 4, 8, 16, 32"));
  EXPECT_FALSE(config.CheckTensorParallel(0).ok());
  EXPECT_FALSE(config.CheckTensorParallel(64).ok());
}

TEST(TensorParallelTest, RefusesAnUnevenMlpOrKvHeads) {
  Json json = With(Llama(), "intermediate_size", 5633);
  EXPECT_THAT(Parse(json).CheckTensorParallel(2).message(),
              HasSubstr("intermediate size"));
  json = With(Llama(), "num_attention_heads", 12);
  json["num_key_value_heads"] = 6;
  json["head_dim"] = 64;
  EXPECT_THAT(Parse(json).CheckTensorParallel(4).message(),
              HasSubstr("KV heads"));
}

TEST(TensorParallelTest, EveryRankNeedsARowOfTheVocabulary) {
  Json json = With(Llama(), "vocab_size", 5);
  json.erase("eos_token_id");
  EXPECT_TRUE(Parse(json).CheckTensorParallel(2).ok());
  // Two rows each for the first three ranks leave none for the fourth.
  EXPECT_THAT(Parse(json).CheckTensorParallel(4).message(),
              HasSubstr("vocabulary"));
}

}  // namespace
}  // namespace quire
