// SPDX-License-Identifier: Apache-2.0
//
// A token's logits do not depend on how its prompt was cut into chunks, on the
// block size, or on what else is in the batch: bitwise.
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/model/golden.h"

namespace quire {
namespace {

struct Case {
  const char* model;
  DType dtype;
  int32_t world_size;
};

class ExactnessTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto golden = ReadGolden(GetParam().model);
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = *golden;
  }

  std::vector<std::vector<std::vector<float>>> Run(const Golden& golden,
                                                   int32_t chunk_size,
                                                   int32_t block_size) {
    auto logits = RunGolden(GetParam().model, golden,
                            {.dtype = GetParam().dtype,
                             .world_size = GetParam().world_size,
                             .chunk_size = chunk_size,
                             .block_size = block_size});
    EXPECT_TRUE(logits.ok()) << logits.status();
    return *logits;
  }

  Golden golden_;
};

TEST_P(ExactnessTest, ChunksAndBlocksDoNotMatter) {
  const auto whole = Run(golden_, /*chunk_size=*/512, /*block_size=*/16);
  EXPECT_EQ(Run(golden_, /*chunk_size=*/1, /*block_size=*/128), whole);
  EXPECT_EQ(Run(golden_, /*chunk_size=*/3, /*block_size=*/1), whole);
  EXPECT_EQ(Run(golden_, /*chunk_size=*/16, /*block_size=*/8), whole);
  EXPECT_EQ(Run(golden_, /*chunk_size=*/17, /*block_size=*/32), whole);
}

TEST_P(ExactnessTest, TheRestOfTheBatchDoesNotMatter) {
  const auto together = Run(golden_, /*chunk_size=*/8, /*block_size=*/16);
  for (size_t i = 0; i < golden_.prompts.size(); ++i) {
    Golden alone = golden_;
    alone.prompts = {golden_.prompts[i]};
    EXPECT_EQ(Run(alone, /*chunk_size=*/512, /*block_size=*/16)[0],
              together[i]);
  }
  Golden crowd = golden_;
  for (int copies = 0; copies < 4; ++copies) {
    crowd.prompts.insert(crowd.prompts.end(), golden_.prompts.begin(),
                         golden_.prompts.end());
  }
  const auto crowded = Run(crowd, /*chunk_size=*/8, /*block_size=*/16);
  for (size_t i = 0; i < crowded.size(); ++i) {
    EXPECT_EQ(crowded[i], together[i % golden_.prompts.size()]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Families, ExactnessTest,
    testing::Values(Case{"llama3_rope", DType::kF32, 1},
                    Case{"llama_bf16", DType::kBf16, 1},
                    Case{"llama_biases", DType::kBf16, 2},
                    Case{"opt_bf16", DType::kBf16, 1},
                    Case{"opt_350m", DType::kF32, 2},
                    Case{"mistral_bf16", DType::kBf16, 2},
                    Case{"qwen2_mixed_windows", DType::kF32, 1},
                    Case{"gpt2_plain", DType::kF32, 2},
                    Case{"phi_bf16", DType::kBf16, 2},
                    Case{"phi_qk_norm", DType::kF32, 2},
                    Case{"llama_dynamic_rope", DType::kF32, 1},
                    Case{"llama_yarn_rope", DType::kBf16, 2},
                    Case{"llama_long_rope", DType::kF32, 2},
                    Case{"mixtral_plain", DType::kF32, 4},
                    Case{"mixtral_window", DType::kBf16, 1},
                    Case{"qwen2_moe_shared", DType::kBf16, 2},
                    Case{"qwen2_moe_steps", DType::kF32, 1},
                    Case{"qwen3_eight_ranks", DType::kF32, 8},
                    Case{"qwen3_moe_bf16", DType::kBf16, 2},
                    Case{"qwen3_bf16", DType::kBf16, 2}),
    [](const auto& info) { return std::string(info.param.model); });

}  // namespace
}  // namespace quire
