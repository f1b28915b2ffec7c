// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/model_cost.h"

#include <cstdlib>
#include <string>

#include "gtest/gtest.h"

namespace quire {
namespace {

ModelConfig Llama8b() {
  ModelConfig config;
  config.num_layers = 32;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_q_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 128256;
  return config;
}

CostModel Device(double memory_bytes) {
  CostModel cost;
  cost.name = "device";
  cost.memory_bytes = memory_bytes;
  cost.bandwidth = 1;
  cost.peak_flops = 1;
  return cost;
}

// 8.03e9 parameters, of which the input embeddings (0.525e9) are looked up.
TEST(ModelCostTest, AnEightBillionModelReadsFifteenGigabytes) {
  CostModel cost = Device(141e9);
  ASSERT_TRUE(PutModel(Llama8b(), 1, 0.9, &cost).ok());
  EXPECT_NEAR(cost.weight_bytes, 15.01e9, 0.01e9);
  EXPECT_EQ(cost.kv_bytes_per_token, 131072);
  EXPECT_NEAR(cost.kv_bytes, 0.9 * 141e9 - 16.06e9 - 4e9, 0.01e9);
}

// Mixtral-8x7B: 46.7e9 parameters, of which a token meets 12.9e9.
TEST(ModelCostTest, AMixtureHoldsMoreThanATokenMeets) {
  ModelConfig config = Llama8b();
  config.vocab_size = 32000;
  config.moe.num_experts = 8;
  config.moe.top_k = 2;
  config.moe.intermediate_size = 14336;
  config.moe.dense_layers.assign(32, false);
  CostModel cost = Device(141e9);
  ASSERT_TRUE(PutModel(config, 1, 0.9, &cost).ok());
  EXPECT_NEAR(cost.weight_bytes, 2 * (46.7e9 - 0.13e9), 0.1e9);
  EXPECT_NEAR(cost.gemm_flops, 2 * (12.9e9 - 0.13e9), 0.1e9);
}

TEST(ModelCostTest, RanksShareWeightsAndHeads) {
  CostModel one = Device(141e9);
  CostModel two = Device(141e9);
  ASSERT_TRUE(PutModel(Llama8b(), 1, 0.9, &one).ok());
  ASSERT_TRUE(PutModel(Llama8b(), 2, 0.9, &two).ok());
  EXPECT_DOUBLE_EQ(two.weight_bytes, one.weight_bytes / 2);
  EXPECT_DOUBLE_EQ(two.kv_bytes_per_token, one.kv_bytes_per_token / 2);
  EXPECT_EQ(two.num_ranks, 2);
  EXPECT_GT(two.all_reduce_s, 0);
}

// Llama 3.3 70B: 70.6e9 parameters. A layer has 8192 x (2 x 8192 + 2 x 1024) +
// 3 x 8192 x 28672 weights, and there are 80; the head has 8192 x 128256, and so
// have the embeddings. A token has 2 x 8 x 128 numbers in every layer's cache.
TEST(ModelCostTest, SeventyBillionParametersGoOnFourOrEightDevices) {
  const auto config = ModelConfig::FromFolder(
      std::string(getenv("TEST_SRCDIR")) + "/" + getenv("TEST_WORKSPACE") +
      "/tools/bench/llama_3_3_70b");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->max_position, 131072);
  CostModel cost = Device(141e9);
  EXPECT_FALSE(PutModel(*config, 1, 0.9, &cost).ok());  // 141 GB of weights
  for (const int32_t num_ranks : {4, 8}) {
    ASSERT_TRUE(PutModel(*config, num_ranks, 0.9, &cost).ok());
    EXPECT_NEAR(cost.weight_bytes, 139.0e9 / num_ranks, 0.05e9);
    EXPECT_EQ(cost.kv_bytes_per_token, 327680 / num_ranks);
    const double resident_bytes = 141.1e9 / num_ranks;
    EXPECT_NEAR(cost.kv_bytes, 0.9 * 141e9 - resident_bytes - 4e9, 0.05e9);
    // Blocks of 16 tokens: 66,800 on four devices, 160,600 on eight.
    const double num_blocks = cost.kv_bytes / cost.kv_bytes_per_token / 16;
    EXPECT_NEAR(num_blocks, num_ranks == 4 ? 66.8e3 : 160.6e3, 200);
  }
}

TEST(ModelCostTest, SaysWhenTheWeightsFillTheMemory) {
  CostModel cost = Device(16e9);
  EXPECT_EQ(PutModel(Llama8b(), 1, 0.9, &cost).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
