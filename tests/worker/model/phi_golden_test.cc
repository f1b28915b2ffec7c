// SPDX-License-Identifier: Apache-2.0
//
// Phi 1.5 and 2 against Hugging Face transformers; see
// tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As for Llama (llama_golden_test.cc).
constexpr float kF32Tolerance = 1e-4f;

class PhiGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(PhiGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(PhiGoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(PhiGoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(PhiGoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, PhiGoldenTest,
                         testing::Values("phi_partial", "phi_gqa",
                                         "phi_qk_norm"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(PhiGoldenFourRanksTest, ShareEightHeads) {
  EXPECT_TRUE(AgreesWithGolden("phi_gqa", {.world_size = 4}, kF32Tolerance));
}

// One query head a rank, two ranks a KV head, and 259 words: seven ranks have
// 33 of them and the last has 28.
TEST(PhiGoldenEightRanksTest, ShareKvHeadsAndUnevenShardsOfTheVocabulary) {
  EXPECT_TRUE(AgreesWithGolden(
      "phi_gqa", {.world_size = 8, .chunk_size = 16, .block_size = 4},
      kF32Tolerance));
}

TEST(PhiGoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("phi_bf16", {}, kF32Tolerance));
}

TEST(PhiGoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(AgreesWithGoldenRounded("phi_bf16", {.dtype = DType::kBf16}));
}

TEST(PhiGoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "phi_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

}  // namespace
}  // namespace quire
