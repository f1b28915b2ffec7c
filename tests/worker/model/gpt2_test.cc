// SPDX-License-Identifier: Apache-2.0
#include "worker/model/gpt2.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/model/expected_tensors.h"

namespace quire {
namespace {

using ::testing::Contains;
using ::testing::UnorderedElementsAre;

TEST(Gpt2Test, AsksForMatricesAsInputsByOutputs) {
  const TensorSet expected = ExpectedOf(
      R"({"architectures": ["GPT2LMHeadModel"], "n_layer": 1, "n_embd": 8,
          "n_head": 2, "n_positions": 16, "vocab_size": 10, "n_inner": 6})");
  const std::string layer = "transformer.h.0.";
  EXPECT_THAT(
      Described(expected),
      UnorderedElementsAre(
          "transformer.wte.weight 10x8", "transformer.wpe.weight 16x8",
          "transformer.ln_f.weight 8", "transformer.ln_f.bias 8",
          layer + "ln_1.weight 8", layer + "ln_1.bias 8",
          layer + "attn.c_attn.weight 8x24", layer + "attn.c_attn.bias 24",
          layer + "attn.c_proj.weight 8x8", layer + "attn.c_proj.bias 8",
          layer + "ln_2.weight 8", layer + "ln_2.bias 8",
          layer + "mlp.c_fc.weight 8x6", layer + "mlp.c_fc.bias 6",
          layer + "mlp.c_proj.weight 6x8", layer + "mlp.c_proj.bias 8"));
  EXPECT_THAT(expected.prefixes, Contains(""));
  EXPECT_THAT(expected.unused_suffixes, Contains(".attn.masked_bias"));
}

}  // namespace
}  // namespace quire
