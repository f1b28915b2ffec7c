// SPDX-License-Identifier: Apache-2.0
//
// Qwen 2 and 3 against Hugging Face transformers; see
// tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As for Llama (llama_golden_test.cc).
constexpr float kF32Tolerance = 1e-4f;

class QwenGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(QwenGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(QwenGoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(QwenGoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(QwenGoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, QwenGoldenTest,
                         testing::Values("qwen2_bias", "qwen2_mixed_windows",
                                         "qwen2_mqa", "qwen3_tied",
                                         "qwen3_biases", "qwen3_eight_ranks"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(QwenGoldenFourRanksTest, ShareOneKvHead) {
  EXPECT_TRUE(AgreesWithGolden("qwen2_mqa", {.world_size = 4}, kF32Tolerance));
}

TEST(QwenGoldenFourRanksTest, HaveACopyOfAKvHeadEach) {
  EXPECT_TRUE(
      AgreesWithGolden("qwen3_eight_ranks", {.world_size = 4}, kF32Tolerance));
}

TEST(QwenGoldenEightRanksTest, ShareTwoKvHeads) {
  EXPECT_TRUE(AgreesWithGolden(
      "qwen3_eight_ranks", {.world_size = 8, .chunk_size = 16, .block_size = 4},
      kF32Tolerance));
}

TEST(QwenGoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("qwen3_bf16", {}, kF32Tolerance));
}

TEST(QwenGoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(AgreesWithGoldenRounded("qwen3_bf16", {.dtype = DType::kBf16}));
}

TEST(QwenGoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "qwen3_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

}  // namespace
}  // namespace quire
