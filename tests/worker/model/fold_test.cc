// SPDX-License-Identifier: Apache-2.0
//
// Which products a model lets take its norms, and that they take the right
// ones.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/worker/model/fold_world.h"
#include "tests/worker/model/folding_backend.h"

namespace quire {
namespace {

constexpr int32_t kLayers = 3;
constexpr int32_t kMaxRows = 7;

struct Family {
  std::string architecture;
  std::string fields;
  int64_t num_norms;   // of a step
  int64_t num_folded;  // of those, by as many rows as fold
};

class FoldTest : public testing::TestWithParam<Family> {};

TEST_P(FoldTest, SaysWhatSeparateNormsSay) {
  const Family& family = GetParam();
  const ModelConfig config =
      ConfigOf(family.architecture, kLayers, family.fields);
  auto cpu = CpuBackend::Create({.num_threads = 1});
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  FoldWorld plain(config, *std::move(cpu));
  auto backend = std::make_unique<FoldingBackend>(kMaxRows);
  FoldingBackend* const folding = backend.get();
  FoldWorld folded(config, std::move(backend));
  // From few rows to many and back: nothing is left over from a step before.
  for (const int32_t num_tokens : {1, kMaxRows, kMaxRows + 1, kMaxRows}) {
    // Some ten operations' roundings on a token's way.
    EXPECT_LT(RelativeDifference(folded.Forward(num_tokens),
                                 plain.Forward(num_tokens)),
              1e-5)
        << num_tokens;
    EXPECT_EQ(
        folding->TakeNumNorms(),
        family.num_norms - (num_tokens <= kMaxRows ? family.num_folded : 0))
        << num_tokens;
  }
}

// All but the first and the last norm of a step lie between two products, if
// the one behind them is no mixture of experts.
INSTANTIATE_TEST_SUITE_P(
    Families, FoldTest,
    testing::Values(
        Family{"LlamaForCausalLM", kLlamaFields, 2 * kLayers + 1,
               2 * kLayers - 1},
        Family{"Qwen2ForCausalLM", kLlamaFields, 2 * kLayers + 1,
               2 * kLayers - 1},
        Family{"Qwen3ForCausalLM", kLlamaFields, 4 * kLayers + 1,
               2 * kLayers - 1},
        Family{"MixtralForCausalLM",
               absl::StrCat(
                   kLlamaFields,
                   R"(, "num_local_experts": 2, "num_experts_per_tok": 1)"),
               2 * kLayers + 1, 0},
        Family{"GPT2LMHeadModel",
               R"(, "n_embd": 40, "n_head": 4, "n_layer": 3, "vocab_size": 32,
                  "n_positions": 512)",
               2 * kLayers + 1, 0}),
    [](const auto& info) { return info.param.architecture; });

}  // namespace
}  // namespace quire
