// SPDX-License-Identifier: Apache-2.0
#include "worker/model/decoder_weights.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "worker/weights/dummy_source.h"

namespace quire {
namespace {

using ::testing::ElementsAre;

const LayerNames kNames = {.attention_norm = "norm1",
                           .q = "q",
                           .k = "k",
                           .v = "v",
                           .attention_out = "o",
                           .mlp_norm = "norm2",
                           .mlp_in = {"gate", "up"},
                           .mlp_out = "down",
                           .q_norm = "qn",
                           .k_norm = "kn"};

ModelConfig Config() {
  ModelConfig config;
  config.hidden_size = 12;
  config.intermediate_size = 8;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 6;
  config.vocab_size = 10;
  return config;
}

std::vector<std::string> ExpectedOf(const ModelConfig& config) {
  std::vector<TensorSpec> tensors;
  ExpectLayer(config, kNames, &tensors);
  std::vector<std::string> names;
  for (const TensorSpec& spec : tensors) {
    names.push_back(spec.name + " " + std::to_string(spec.rows) +
                    (spec.is_vector ? "" : "x" + std::to_string(spec.cols)));
  }
  return names;
}

TEST(DecoderWeightsTest, ExpectsEachTensorWithItsShape) {
  EXPECT_THAT(
      ExpectedOf(Config()),
      ElementsAre("norm1.weight 12", "q.weight 24x12", "k.weight 12x12",
                  "v.weight 12x12", "o.weight 12x24", "norm2.weight 12",
                  "gate.weight 8x12", "up.weight 8x12", "down.weight 12x8"));
}

TEST(DecoderWeightsTest, ExpectsBiasesOnlyWhereTheConfigHasThem) {
  ModelConfig config = Config();
  config.norm = NormType::kLayer;
  config.attention_bias = true;
  const std::vector<std::string> with = ExpectedOf(config);
  EXPECT_THAT(
      with, testing::IsSupersetOf({"norm1.bias 12", "q.bias 24", "k.bias 12"}));
  EXPECT_THAT(with, testing::Not(testing::Contains("o.bias 12")));
  EXPECT_THAT(with, testing::Not(testing::Contains("down.bias 12")));
  config.attention_out_bias = true;
  EXPECT_THAT(ExpectedOf(config), testing::Contains("o.bias 12"));
  config.norm_affine = false;
  EXPECT_THAT(ExpectedOf(config),
              testing::Not(testing::Contains("norm1.weight 12")));
}

TEST(DecoderWeightsTest, ExpectsNormsOfHeadsWhereTheConfigHasThem) {
  ModelConfig config = Config();
  config.qk_norm = true;
  EXPECT_THAT(ExpectedOf(config),
              testing::IsSupersetOf({"qn.weight 6", "kn.weight 6"}));
}

DecoderLayer Load(const ModelConfig& config, int32_t rank, int32_t world_size) {
  DummySource source(/*seed=*/1);
  auto backend = CpuBackend::Create({.num_threads = 1});
  EXPECT_TRUE(backend.ok());
  TensorSet expected;
  ExpectLayer(config, kNames, &expected.tensors);
  auto loader = WeightLoader::Create(expected, source, **backend, nullptr);
  EXPECT_TRUE(loader.ok()) << loader.status();
  auto layer = LoadLayer(config, MakeRankShape(config, rank, world_size),
                         kNames, **loader);
  EXPECT_TRUE(layer.ok()) << layer.status();
  return *std::move(layer);
}

TEST(DecoderWeightsTest, ARankLoadsItsShare) {
  const DecoderLayer layer = Load(Config(), /*rank=*/1, /*world_size=*/2);
  EXPECT_EQ(layer.qkv.weight->n(), 12 + 6 + 6);
  EXPECT_EQ(layer.qkv.weight->k(), 12);
  EXPECT_EQ(layer.attention_out.weight->n(), 12);
  EXPECT_EQ(layer.attention_out.weight->k(), 12);
  EXPECT_EQ(layer.mlp_in.weight->n(), 8);
  EXPECT_EQ(layer.mlp_out.weight->k(), 4);
  EXPECT_EQ(layer.qkv.bias, nullptr);
}

TEST(DecoderWeightsTest, RowParallelBiasesAreOnTheFirstRankOnly) {
  ModelConfig config = Config();
  config.attention_bias = true;
  config.attention_out_bias = true;
  config.mlp_bias = true;
  config.qk_norm = true;
  const DecoderLayer first = Load(config, 0, 2);
  const DecoderLayer second = Load(config, 1, 2);
  EXPECT_NE(first.attention_out.bias, nullptr);
  EXPECT_NE(first.mlp_out.bias, nullptr);
  EXPECT_EQ(second.attention_out.bias, nullptr);
  EXPECT_EQ(second.mlp_out.bias, nullptr);
  EXPECT_NE(second.qkv.bias, nullptr);
  EXPECT_NE(second.mlp_in.bias, nullptr);
  EXPECT_EQ(second.q_norm.weight->bytes(), first.q_norm.weight->bytes());
}

TEST(DecoderWeightsTest, StackedBiasesFollowTheirRows) {
  ModelConfig config = Config();
  config.attention_bias = true;
  const DecoderLayer whole = Load(config, 0, 1);
  const DecoderLayer second = Load(config, 1, 2);
  const float* all = whole.qkv.bias->as<float>();
  const float* part = second.qkv.bias->as<float>();
  // [q 24; k 12; v 12] against the second half of each.
  const int32_t expected[] = {12, 24 + 6, 36 + 6};
  const int32_t lengths[] = {12, 6, 6};
  int32_t at = 0;
  for (int piece = 0; piece < 3; ++piece) {
    for (int32_t i = 0; i < lengths[piece]; ++i, ++at) {
      EXPECT_EQ(part[at], all[expected[piece] + i]) << piece << ", " << i;
    }
  }
}

}  // namespace
}  // namespace quire
