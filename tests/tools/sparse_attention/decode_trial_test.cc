// SPDX-License-Identifier: Apache-2.0
#include "tools/sparse_attention/decode_trial.h"

#include <vector>

#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

class DecodeTrialTest : public testing::Test {
 protected:
  void SetUp() override {
    TrialOptions options;
    options.model = ModelFolder("tools/demo_model/model");
    options.num_threads = 1;
    options.max_num_seqs = 2;
    options.max_model_len = 400;
    auto trial = DecodeTrial::Create(options);
    ASSERT_TRUE(trial.ok()) << trial.status();
    trial_ = *std::move(trial);
  }

  TrialResult Run(int32_t prompt_tokens, const std::vector<int32_t>& pages) {
    const auto prompts = trial_->Generate(2, prompt_tokens, /*seed=*/3);
    EXPECT_TRUE(prompts.ok()) << prompts.status();
    auto result = trial_->Run(*prompts, /*num_steps=*/20, pages);
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }

  std::unique_ptr<DecodeTrial> trial_;
};

TEST_F(DecodeTrialTest, TheModelsOwnTextsAreOfTheLengthAskedFor) {
  const auto texts = trial_->Generate(2, 50, /*seed=*/3);
  ASSERT_TRUE(texts.ok()) << texts.status();
  ASSERT_EQ(texts->size(), 2u);
  EXPECT_EQ((*texts)[0].size(), 50u);
  EXPECT_NE((*texts)[0], (*texts)[1]);
}

TEST_F(DecodeTrialTest, EnoughPagesChangeNoLogit) {
  // 300 and 20 tokens are 20 pages; a prompt that ends a page, and one that
  // does not.
  for (int32_t prompt_tokens : {288, 300}) {
    const TrialResult result = Run(prompt_tokens, {20});
    const PagesTrial& trial = result.trials[0];
    EXPECT_EQ(trial.difference.num_rows(), 40);
    EXPECT_EQ(trial.difference.max(), 0);
    EXPECT_EQ(trial.pages_read, 1);
    EXPECT_EQ(trial.bytes_read, 1);
  }
}

TEST_F(DecodeTrialTest, FewerPagesChangeLogitsMore) {
  const TrialResult result = Run(300, {4, 12});
  const PagesTrial& few = result.trials[0];
  const PagesTrial& more = result.trials[1];
  EXPECT_GT(more.difference.max(), 0);
  EXPECT_GT(few.difference.mean_kl(), more.difference.mean_kl());
  EXPECT_NEAR(few.pages_read, 4 / 19.75, 0.01);
  EXPECT_NEAR(more.pages_read, 3 * few.pages_read, 1e-9);
  // Two of five layers read all, three the pages and a sixteenth for bounds.
  EXPECT_NEAR(few.bytes_read, (2 + 3 * (few.pages_read + 1.0 / 16)) / 5, 1e-9);
  EXPECT_GT(few.step_seconds, 0);
  EXPECT_GT(result.dense_step_seconds, 0);
}

}  // namespace
}  // namespace quire
