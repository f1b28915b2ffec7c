// SPDX-License-Identifier: Apache-2.0
//
// Llama against Hugging Face transformers; see tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// Both sides compute in float32 with sums in another order. A logit is a sum of
// about 48 products of size ~1 behind two or three layers of as many: 1e-4 is
// some 500 roundings of 2^-24 at the logits' size of about 4.
constexpr float kF32Tolerance = 1e-4f;

class LlamaGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(LlamaGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(LlamaGoldenTest, ChunkedPromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.chunk_size = 5, .block_size = 4},
                               kF32Tolerance));
}

TEST_P(LlamaGoldenTest, WholePromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 2}, kF32Tolerance));
}

TEST_P(LlamaGoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 16, .block_size = 1},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllShapes, LlamaGoldenTest,
                         testing::Values("llama_gqa", "llama_mqa", "llama_tied",
                                         "llama_linear_rope", "llama3_rope",
                                         "llama_odd_head_dim", "llama_biases",
                                         "llama_fp16"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(LlamaGoldenOddHeadsTest, RunOnOneRankAndOnThree) {
  EXPECT_TRUE(AgreesWithGolden("llama_odd_heads", {}, kF32Tolerance));
  EXPECT_TRUE(AgreesWithGolden(
      "llama_odd_heads", {.world_size = 3, .chunk_size = 5}, kF32Tolerance));
}

// A query head a rank. Two or one KV heads are copied to the ranks that share
// them; the 259 words of llama_biases go out as 65, 65, 65 and 64.
class LlamaGoldenFourRanksTest : public testing::TestWithParam<const char*> {};

TEST_P(LlamaGoldenFourRanksTest, WholePrompts) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 4}, kF32Tolerance));
}

TEST_P(LlamaGoldenFourRanksTest, ChunkedPrompts) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 4, .chunk_size = 5, .block_size = 4},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllOfFourHeads, LlamaGoldenFourRanksTest,
                         testing::Values("llama_gqa", "llama_mqa", "llama_tied",
                                         "llama_odd_head_dim", "llama_biases",
                                         "llama_fp16", "llama_bf16"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(LlamaGoldenBf16WeightsTest, AgreeWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden("llama_bf16", {}, kF32Tolerance));
}

TEST(LlamaGoldenBf16Test, RoundsNoWorseThanItsFormatOnOneRank) {
  EXPECT_TRUE(AgreesWithGoldenRounded("llama_bf16", {.dtype = DType::kBf16}));
}

TEST(LlamaGoldenBf16Test, RoundsNoWorseThanItsFormatOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "llama_bf16", {.dtype = DType::kBf16, .world_size = 2}));
}

TEST(LlamaGoldenBf16Test, RoundsNoWorseThanItsFormatOnFourRanks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      "llama_bf16", {.dtype = DType::kBf16, .world_size = 4}));
}

}  // namespace
}  // namespace quire
