// SPDX-License-Identifier: Apache-2.0
//
// Mistral against Hugging Face transformers; see tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As for Llama (llama_golden_test.cc).
constexpr float kF32Tolerance = 1e-4f;

class MistralGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(MistralGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(MistralGoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(MistralGoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(MistralGoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, MistralGoldenTest,
                         testing::Values("mistral_window", "mistral_full"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(MistralGoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("mistral_bf16", {}, kF32Tolerance));
}

TEST(MistralGoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(AgreesWithGoldenRounded("mistral_bf16", {.dtype = DType::kBf16}));
}

TEST(MistralGoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "mistral_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

}  // namespace
}  // namespace quire
