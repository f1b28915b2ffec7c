// SPDX-License-Identifier: Apache-2.0
//
// Mixtures of experts against Hugging Face transformers; see
// tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As for Llama (llama_golden_test.cc): the prompts are those whose tokens no
// rounding sends to another expert.
constexpr float kF32Tolerance = 1e-4f;

class MoeGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(MoeGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(MoeGoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(MoeGoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(MoeGoldenTest, WholePromptsOnFourRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 4}, kF32Tolerance));
}

TEST_P(MoeGoldenTest, ChunkedPromptsOnFourRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 4, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, MoeGoldenTest,
                         testing::Values("mixtral_plain", "mixtral_window",
                                         "qwen2_moe_shared", "qwen2_moe_steps",
                                         "qwen3_moe_plain", "qwen3_moe_tied"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(MoeGoldenEightRanksTest, ShareKvHeadsAndSplitSmallExperts) {
  EXPECT_TRUE(
      AgreesWithGolden("qwen3_moe_plain", {.world_size = 8}, kF32Tolerance));
}

TEST(MoeGoldenEightRanksTest, HaveUnevenShardsOfTheVocabularyBehindAWindow) {
  EXPECT_TRUE(
      AgreesWithGolden("mixtral_window", {.world_size = 8}, kF32Tolerance));
}

TEST(MoeGoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("qwen3_moe_bf16", {}, kF32Tolerance));
}

TEST(MoeGoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(
      AgreesWithGoldenRounded("qwen3_moe_bf16", {.dtype = DType::kBf16}));
}

TEST(MoeGoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "qwen3_moe_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

TEST(MoeGoldenBf16Test, RoundsNoWorseThanItsFormatOnFourRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "qwen3_moe_bf16", {.dtype = DType::kBf16, .world_size = 4}));
}

}  // namespace
}  // namespace quire
