// SPDX-License-Identifier: Apache-2.0
//
// Models on a GPU against Hugging Face transformers; see
// tests/golden/make_models.py.
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/golden_checks.h"

namespace quire {
namespace {

// As on the CPU (llama_golden_test.cc, opt_golden_test.cc).
constexpr float kF32Tolerance = 1e-4f;

class CudaGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(CudaGoldenTest, WholePrompts) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.on_cuda = true}, kF32Tolerance));
}

TEST_P(CudaGoldenTest, ChunkedPrompts) {
  EXPECT_TRUE(AgreesWithGolden(
      GetParam(), {.on_cuda = true, .chunk_size = 5, .block_size = 4},
      kF32Tolerance));
}

INSTANTIATE_TEST_SUITE_P(
    AllShapes, CudaGoldenTest,
    testing::Values("llama_gqa", "llama_mqa", "llama_tied", "llama_linear_rope",
                    "llama3_rope", "llama_odd_head_dim", "llama_odd_heads",
                    "llama_biases", "llama_fp16", "opt_pre_norm", "opt_350m",
                    "opt_no_final_norm", "opt_no_bias", "opt_untied",
                    "mistral_window", "mistral_full", "qwen2_bias",
                    "qwen2_mixed_windows", "qwen2_mqa", "qwen3_tied",
                    "qwen3_biases", "qwen3_eight_ranks", "gpt2_plain",
                    "gpt2_bare", "gpt2_untied", "phi_partial", "phi_gqa",
                    "phi_qk_norm", "phi_long_rope", "llama_dynamic_rope",
                    "llama_yarn_rope", "llama_short_rope", "qwen2_yarn_rope",
                    "llama_long_rope", "mixtral_plain", "mixtral_window",
                    "qwen2_moe_shared", "qwen2_moe_steps", "qwen3_moe_plain",
                    "qwen3_moe_tied"),
    [](const auto& info) { return std::string(info.param); });

class CudaGoldenBf16Test : public testing::TestWithParam<const char*> {};

TEST_P(CudaGoldenBf16Test, AgreesWhenComputedInFloat) {
  EXPECT_TRUE(AgreesWithGolden(GetParam(), {.on_cuda = true}, kF32Tolerance));
}

TEST_P(CudaGoldenBf16Test, RoundsNoWorseThanItsFormat) {
  EXPECT_TRUE(AgreesWithGoldenRounded(
      GetParam(), {.dtype = DType::kBf16, .on_cuda = true}));
}

TEST_P(CudaGoldenBf16Test, RoundsNoWorseThanItsFormatInChunks) {
  EXPECT_TRUE(AgreesWithGoldenRounded(GetParam(), {.dtype = DType::kBf16,
                                                   .on_cuda = true,
                                                   .chunk_size = 5,
                                                   .block_size = 16}));
}

INSTANTIATE_TEST_SUITE_P(
    AllFamilies, CudaGoldenBf16Test,
    testing::Values("llama_bf16", "opt_bf16", "mistral_bf16", "qwen3_bf16",
                    "gpt2_bf16", "phi_bf16", "qwen3_moe_bf16"),
    [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace quire
