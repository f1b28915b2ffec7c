// SPDX-License-Identifier: Apache-2.0
#include "tools/simulator/cost_model.h"

#include <string>

#include "gtest/gtest.h"
#include "tools/simulator/data_file.h"

namespace quire {
namespace {

// Weights take 1 s to read, a token 0.1 s to multiply and 0.01 s of KV.
CostModel Plain() {
  CostModel model;
  model.weight_bytes = 100;
  model.gemm_flops = 10;
  model.attention_flops = 1;
  model.kv_bytes_per_token = 1;
  model.num_layers = 2;
  model.hidden_size = 8;
  model.bandwidth = 100;
  model.peak_flops = 100;
  model.kv_bytes = 1000;
  return model;
}

double Seconds(const CostModel& model, const StepWork& work) {
  return StepSeconds(model, work, 16, /*contiguous=*/false);
}

TEST(CostModelTest, AFewTokensCostTheWeightsAndTheirContext) {
  EXPECT_DOUBLE_EQ(
      Seconds(Plain(),
              {.num_sequences = 2, .num_tokens = 2, .num_kv_tokens = 50}),
      1 + 0.5);
}

TEST(CostModelTest, ManyTokensCostTheirFlops) {
  EXPECT_DOUBLE_EQ(Seconds(Plain(), {.num_sequences = 1, .num_tokens = 30}), 3);
  EXPECT_DOUBLE_EQ(Seconds(Plain(), {.num_sequences = 1,
                                     .num_tokens = 30,
                                     .num_attention_pairs = 450}),
                   3 + 4.5);
}

TEST(CostModelTest, RanksAddTwoAllReducesALayer) {
  CostModel model = Plain();
  model.num_ranks = 2;
  model.all_reduce_s = 0.25;
  model.all_reduce_bandwidth = 16;
  // 2 tokens of 8 activations of 2 bytes: 2 s on the link.
  EXPECT_DOUBLE_EQ(Seconds(model, {.num_sequences = 2, .num_tokens = 2}),
                   1 + 4 * (0.25 + 2));
}

TEST(CostModelTest, CopiesReadAndWriteWholeBlocks) {
  EXPECT_DOUBLE_EQ(
      Seconds(Plain(),
              {.num_sequences = 1, .num_tokens = 1, .num_copied_blocks = 3}),
      1 + 2 * 3 * 16 * 0.01);
}

TEST(CostModelTest, SwapsHideBehindComputeAsFarAsTheyOverlap) {
  CostModel model = Plain();
  model.swap_bandwidth = 16;
  model.swap_block_s = 0.5;
  EXPECT_DOUBLE_EQ(SwapBlocksPerSecond(model, 16), 1 / 1.5);
  const StepWork work = {
      .num_sequences = 1, .num_tokens = 1, .num_swapped_blocks = 2};
  model.swap_overlap = 0;
  EXPECT_DOUBLE_EQ(Seconds(model, work), 1 + 3);
  model.swap_overlap = 1;
  EXPECT_DOUBLE_EQ(Seconds(model, work), 3);
}

TEST(CostModelTest, SmallBlocksAreReadSlowerAndLargeOnesFaster) {
  CostModel model = Plain();
  model.span_tokens = 4;
  EXPECT_DOUBLE_EQ(BlockFactor(model, 16), 1);
  EXPECT_DOUBLE_EQ(BlockFactor(model, 1), 5 / 1.25);
  EXPECT_LT(BlockFactor(model, 256), 1);
  model.paged_factor = 1.2;
  const StepWork work = {
      .num_sequences = 1, .num_tokens = 1, .num_kv_tokens = 100};
  EXPECT_DOUBLE_EQ(StepSeconds(model, work, 16, /*contiguous=*/false), 2.2);
  EXPECT_DOUBLE_EQ(StepSeconds(model, work, 1, /*contiguous=*/true), 2);
}

TEST(CostModelTest, TheHostCostsWhatIsNotHidden) {
  CostModel model = Plain();
  model.host_step_s = 0.125;
  model.host_sequence_s = 0.25;
  model.step_overhead_s = 0.5;
  EXPECT_DOUBLE_EQ(Seconds(model, {.num_sequences = 3, .num_tokens = 3}),
                   1 + 0.5 + 0.125 + 0.75);
}

TEST(CostModelTest, SlotsWinOverBytes) {
  CostModel model = Plain();
  EXPECT_EQ(NumBlocks(model, 16), 62);
  model.kv_slots = 160;
  EXPECT_EQ(NumBlocks(model, 16), 10);
}

TEST(CostModelTest, PresetsAreWhole) {
  const std::vector<std::string> names = PresetNames();
  EXPECT_GE(names.size(), 7);
  for (const std::string& name : names) {
    const auto model = LoadCostModel(PresetFile(name));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->name, name);
    EXPECT_FALSE(model->source.empty());
    EXPECT_GT(NumBlocks(*model, 16), 128) << name;
  }
}

TEST(CostModelTest, H200FloorsAreThoseOfTheArithmetic) {
  const auto model = LoadCostModel(PresetFile("h200_opt13b"));
  ASSERT_TRUE(model.ok()) << model.status();
  // 25.68 GB and 32 x 512 x 819,200 B at 4,268 GB/s: 6.02 + 3.14 ms, and the
  // 15 us between steps.
  EXPECT_NEAR(Seconds(*model, {.num_sequences = 32,
                               .num_tokens = 32,
                               .num_kv_tokens = 32 * 512}),
              9.18e-3, 0.02e-3);
}

TEST(CostModelTest, SaysWhichFieldIsWrong) {
  const auto missing = ParseCostModel(R"({"model": {}})", "m.json");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(missing.status().message().find("weight_bytes"), std::string::npos);
  EXPECT_EQ(LoadCostModel("no/such.json").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace quire
