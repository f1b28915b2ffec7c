// SPDX-License-Identifier: Apache-2.0
//
// GPT-2 against Hugging Face transformers; see tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As for Llama (llama_golden_test.cc).
constexpr float kF32Tolerance = 1e-4f;

class Gpt2GoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(Gpt2GoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(Gpt2GoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(Gpt2GoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(Gpt2GoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, Gpt2GoldenTest,
                         testing::Values("gpt2_plain", "gpt2_bare",
                                         "gpt2_untied"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(Gpt2GoldenFourRanksTest, ShareFourHeads) {
  EXPECT_TRUE(AgreesWithGolden("gpt2_bare", {.world_size = 4}, kF32Tolerance));
}

TEST(Gpt2GoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("gpt2_bf16", {}, kF32Tolerance));
}

TEST(Gpt2GoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(AgreesWithGoldenRounded("gpt2_bf16", {.dtype = DType::kBf16}));
}

TEST(Gpt2GoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "gpt2_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

}  // namespace
}  // namespace quire
