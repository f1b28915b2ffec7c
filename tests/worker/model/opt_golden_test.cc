// SPDX-License-Identifier: Apache-2.0
//
// OPT against Hugging Face transformers; see tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// Both sides compute in float32 with sums in another order. A logit is a sum of
// about 48 products of size ~1 behind two or three layers of as many: 1e-4 is
// some 500 roundings of 2^-24 at the logits' size of about 4.
constexpr float kF32Tolerance = 1e-4f;

class OptGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(OptGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(OptGoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(OptGoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(OptGoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, OptGoldenTest,
                         testing::Values("opt_pre_norm", "opt_350m",
                                         "opt_no_final_norm", "opt_no_bias",
                                         "opt_untied"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

// A head a rank.
class OptGoldenFourRanksTest : public testing::TestWithParam<const char*> {};

TEST_P(OptGoldenFourRanksTest, WholePrompts) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 4}, kF32Tolerance));
}

TEST_P(OptGoldenFourRanksTest, ChunkedPrompts) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 4, .chunk_size = 5, .block_size = 4},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllOfFourHeads, OptGoldenFourRanksTest,
                         testing::Values("opt_pre_norm", "opt_350m",
                                         "opt_no_final_norm", "opt_no_bias",
                                         "opt_untied", "opt_bf16"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(OptGoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("opt_bf16", {}, kF32Tolerance));
}

TEST(OptGoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(AgreesWithGoldenRounded("opt_bf16", {.dtype = DType::kBf16}));
}

TEST(OptGoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "opt_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

TEST(OptGoldenBf16Test, RoundsNoWorseThanItsFormatOnFourRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "opt_bf16", {.dtype = DType::kBf16, .world_size = 4}));
}

}  // namespace
}  // namespace quire
