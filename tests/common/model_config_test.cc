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
#include "tests/common/config_json.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace config_json;

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
  EXPECT_EQ(Parse(With(Llama(), "bos_token_id", -1)).bos_token_id, -1);
  EXPECT_EQ(Parse(With(Llama(), "bos_token_id", 31999)).bos_token_id, 31999);
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
        BadField{"rope_scaling", {{"type", "ntk"}}, "default, linear, dynamic"},
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
        BadField{"bos_token_id", 32000, "[0, 32000), or -1 for none"},
        BadField{"bos_token_id", 99999, "\"bos_token_id\" is 99999"},
        BadField{"quantization_config", {{"quant_method", "gptq"}}, "\"gptq\""},
        BadField{"quantization_config", Json::array(), "unquantized"},
        BadField{"architectures", Json::array(), "LlamaForCausalLM"},
        BadField{"architectures", "LlamaForCausalLM", "a list"}));

TEST(ModelConfigTest, UnknownArchitectureListsTheKnown) {
  const absl::Status status =
      ParseError(With(Llama(), "architectures", Json::array({"GPTJ"})));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(status.message(), HasSubstr("GPTJ"));
  EXPECT_THAT(status.message(),
              HasSubstr("LlamaForCausalLM, MistralForCausalLM, "
                        "MixtralForCausalLM, Qwen2ForCausalLM, "
                        "Qwen2MoeForCausalLM, Qwen3ForCausalLM, "
                        "Qwen3MoeForCausalLM, OPTForCausalLM, "
                        "GPT2LMHeadModel, PhiForCausalLM"));
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
              HasSubstr("--tensor_parallel_size=3 does not divide the query "
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

TEST(TensorParallelTest, ExpertsAreSplitToo) {
  const ModelConfig config = Parse(With(Qwen2Moe(), "intermediate_size", 7));
  // No layer is dense, so that 7 does not matter.
  EXPECT_TRUE(config.CheckTensorParallel(16).ok());
  const absl::Status odd = Parse(With(Qwen2Moe(), "moe_intermediate_size", 9))
                               .CheckTensorParallel(2);
  EXPECT_THAT(odd.message(), HasSubstr("does not divide the experts' size"));
  EXPECT_THAT(odd.message(), HasSubstr("experts of 9 and 5632"));
  const absl::Status shared =
      Parse(With(Qwen2Moe(), "shared_expert_intermediate_size", 6))
          .CheckTensorParallel(4);
  EXPECT_THAT(shared.message(), HasSubstr("the shared expert's size"));
  Json mixed = With(Qwen2Moe(), "intermediate_size", 7);
  mixed["mlp_only_layers"] = {0};
  EXPECT_FALSE(Parse(mixed).CheckTensorParallel(2).ok());
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
