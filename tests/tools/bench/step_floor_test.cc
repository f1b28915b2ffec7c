// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/step_floor.h"

#include <string>

#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

ModelConfig Model(const std::string& name) {
  auto config = ModelConfig::FromFolder(ModelFolder("tools/bench/" + name));
  EXPECT_TRUE(config.ok()) << config.status();
  return *std::move(config);
}

double DecodeMs(const std::string& model, double batch, double context,
                int32_t num_ranks) {
  return 1e3 * FloorSeconds(Model(model),
                            {.num_tokens = batch,
                             .num_sampled = batch,
                             .kv_tokens = batch * context},
                            num_ranks, FloorRates());
}

double PromptMs(double num_tokens, int32_t num_ranks) {
  return 1e3 * FloorSeconds(Model("llama_3_1_8b"),
                            {.num_tokens = num_tokens,
                             .num_sampled = 1,
                             .prompt_pairs = num_tokens * num_tokens / 2},
                            num_ranks, FloorRates());
}

// Worked out by hand from the models' sizes, as tools/step_floor.py is tested.
TEST(StepFloorTest, DecodesReadWeightsOrMultiplyByThem) {
  EXPECT_NEAR(DecodeMs("llama_3_1_8b", 1, 512, 1), 3.51, 0.005);
  EXPECT_NEAR(DecodeMs("llama_3_1_8b", 128, 512, 1), 5.49, 0.005);
  EXPECT_NEAR(DecodeMs("llama_3_1_8b", 256, 512, 1), 8.86, 0.005);
  EXPECT_NEAR(DecodeMs("llama_2_13b", 32, 512, 1), 9.10, 0.005);
}

TEST(StepFloorTest, RanksShareTheWorkAndSumTwiceALayer) {
  EXPECT_NEAR(DecodeMs("llama_3_1_8b", 1, 512, 2), 1.98, 0.005);
  EXPECT_NEAR(DecodeMs("llama_3_1_8b", 256, 512, 2), 5.02, 0.005);
  EXPECT_NEAR(DecodeMs("llama_2_13b", 256, 512, 2), 17.5, 0.05);
}

TEST(StepFloorTest, PromptsMultiplyAndAttendToThemselves) {
  EXPECT_NEAR(PromptMs(512, 1), 9.13, 0.005);
  EXPECT_NEAR(PromptMs(2048, 1), 37.6, 0.05);
  EXPECT_NEAR(PromptMs(1, 1), 3.49, 0.005);  // weights are read all the same
}

TEST(StepFloorTest, RanksBeyondTheHeadsKeepACopyEach) {
  const ModelConfig config = Model("llama_3_1_8b");
  EXPECT_EQ(KvBytes(config, 1), 131072);
  EXPECT_EQ(KvBytes(config, 8), 131072 / 8);
  EXPECT_EQ(KvBytes(config, 16), 131072 / 8);
}

}  // namespace
}  // namespace quire
