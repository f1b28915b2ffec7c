// SPDX-License-Identifier: Apache-2.0
//
// A step's last layer computes what is sampled, and says of it what a step says
// that computes everything.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/worker/model/fold_world.h"
#include "tests/worker/model/folding_backend.h"

namespace quire {
namespace {

constexpr int32_t kLayers = 2;
constexpr int32_t kTokens = 9;
constexpr int32_t kVocab = 32;

struct Family {
  std::string architecture;
  std::string fields;
  bool keeps;  // the sampled rows alone
};

// A model whose backend folds norms into products of few rows, the last
// layer's.
class KeptRowsTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    auto backend = std::make_unique<FoldingBackend>(/*max_rows=*/3);
    backend_ = backend.get();
    world_ = std::make_unique<FoldWorld>(
        ConfigOf(GetParam().architecture, kLayers, GetParam().fields),
        std::move(backend));
    every_ = world_->Forward(kTokens);
    rows_of_all_ = backend_->TakeNumProductRows();
  }

  // Rows of the logits of all tokens.
  std::vector<float> Every(const std::vector<int32_t>& rows) const {
    std::vector<float> logits;
    for (const int32_t row : rows) {
      const auto begin = every_.begin() + int64_t{row} * kVocab;
      logits.insert(logits.end(), begin, begin + kVocab);
    }
    return logits;
  }

  FoldingBackend* backend_ = nullptr;
  std::unique_ptr<FoldWorld> world_;
  std::vector<float> every_;
  int64_t rows_of_all_ = 0;  // of products
};

TEST_P(KeptRowsTest, SampledRowsAreThoseOfAStepThatSamplesAll) {
  const std::vector<std::vector<int32_t>> lists = {
      {kTokens - 1}, {0}, {2, 3, 7}, {0, 1, 2, 3, 4, 5, 6, 7}};
  for (const std::vector<int32_t>& rows : lists) {
    // Some ten operations' roundings on a token's way: norms may be folded.
    EXPECT_LT(RelativeDifference(world_->Forward(kTokens, rows), Every(rows)),
              1e-5)
        << rows.size();
  }
  // Nothing of those steps is left over.
  EXPECT_EQ(world_->Forward(kTokens), every_);
}

TEST_P(KeptRowsTest, TheLastLayerMultipliesTheSampledRows) {
  const int64_t layer_and_head = rows_of_all_ / kTokens;
  for (const int64_t num_rows : {1, 4}) {
    const std::vector<int32_t> rows(num_rows, 5);
    world_->Forward(kTokens, rows);
    // All but queries, keys and values in one product; and the head.
    const int64_t products = (layer_and_head - 1) / kLayers - 1;
    const int64_t saved = GetParam().keeps ? products + 1 : 1;
    EXPECT_EQ(backend_->TakeNumProductRows(),
              rows_of_all_ - saved * (kTokens - num_rows));
  }
}

TEST_P(KeptRowsTest, AStepThatSamplesNothingEndsWithItsLastKeys) {
  world_->Forward(kTokens, {});
  const int64_t products = (rows_of_all_ / kTokens - 1) / kLayers;
  EXPECT_EQ(backend_->TakeNumProductRows(),
            GetParam().keeps ? ((kLayers - 1) * products + 1) * kTokens
                             : kLayers * products * kTokens);
  EXPECT_EQ(world_->Forward(kTokens), every_);
}

TEST_P(KeptRowsTest, RowsOfThePromptCanBeAskedForAfterwards) {
  EXPECT_EQ(world_->Forward(kTokens, {kTokens - 1}, {1, 4, 6}),
            Every({kTokens - 1, 1, 4, 6}));
  EXPECT_EQ(world_->Forward(kTokens, {}, {0, 8}), Every({0, 8}));
}

constexpr char kOptFields[] = R"(, "hidden_size": 40, "ffn_dim": 24,
    "num_attention_heads": 5, "vocab_size": 32,
    "max_position_embeddings": 512, "activation_function": "relu")";

INSTANTIATE_TEST_SUITE_P(
    Families, KeptRowsTest,
    testing::Values(
        Family{"LlamaForCausalLM", kLlamaFields, true},
        Family{"Qwen3ForCausalLM", kLlamaFields, true},
        Family{"GPT2LMHeadModel",
               R"(, "n_embd": 40, "n_head": 4, "n_layer": 2, "vocab_size": 32,
                  "n_positions": 512)",
               true},
        Family{"OPTForCausalLM",
               absl::StrCat(kOptFields, R"(, "do_layer_norm_before": true)"),
               true},
        // Norms behind the sums, of which the last is the head's.
        Family{"OPTForCausalLM",
               absl::StrCat(kOptFields, R"(, "do_layer_norm_before": false)"),
               false}),
    [](const auto& info) {
      return absl::StrCat(info.param.architecture, info.index);
    });

}  // namespace
}  // namespace quire
