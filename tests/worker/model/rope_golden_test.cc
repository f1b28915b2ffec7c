// SPDX-License-Identifier: Apache-2.0
//
// Stretched rotary positions against Hugging Face transformers; see
// tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As for Llama (llama_golden_test.cc).
constexpr float kF32Tolerance = 1e-4f;

class RopeGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(RopeGoldenTest, WholePromptsOnOneRank) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {}, kF32Tolerance));
}

TEST_P(RopeGoldenTest, ChunkedPromptsOnTwoRanks) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.world_size = 2, .chunk_size = 5, .block_size = 4},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(
    AllScalings, RopeGoldenTest,
    testing::Values("llama_linear_rope", "llama3_rope", "llama_dynamic_rope",
                    "llama_yarn_rope", "qwen2_yarn_rope", "llama_short_rope",
                    "llama_long_rope", "phi_long_rope"),
    [](const auto& info) { return std::string(info.param); });

// Of those, the ones whose heads four ranks can share.
class RopeGoldenFourRanksTest : public testing::TestWithParam<const char*> {};

TEST_P(RopeGoldenFourRanksTest, WholePrompts) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.world_size = 4}, kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(AllOfFourHeads, RopeGoldenFourRanksTest,
                         testing::Values("llama_linear_rope", "llama3_rope",
                                         "llama_dynamic_rope",
                                         "llama_yarn_rope", "llama_short_rope",
                                         "llama_long_rope", "phi_long_rope"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace quire
