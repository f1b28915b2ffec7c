// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/model/golden_checks.h"

#include <algorithm>
#include <iostream>
#include <vector>

#include "gtest/gtest.h"

namespace quire {
namespace {

// Checks kept rows; returns the largest difference.
float CheckLogits(const GoldenPrompt& prompt, int32_t every,
                  const std::vector<std::vector<float>>& logits,
                  float tolerance) {
  float largest = 0;
  for (size_t kept = 0; kept < prompt.logits.size(); ++kept) {
    const float difference =
        MaxDifference(prompt.logits[kept], logits[kept * every]);
    EXPECT_LE(difference, tolerance) << "step " << kept * every;
    largest = std::max(largest, difference);
  }
  return largest;
}

}  // namespace

void ExpectGolden(const std::string& name, const GoldenRun& run,
                  float tolerance) {
  const auto golden = ReadGolden(name);
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto logits = RunGolden(name, *golden, run);
  ASSERT_TRUE(logits.ok()) << logits.status();
  float largest = 0;
  for (size_t i = 0; i < golden->prompts.size(); ++i) {
    const GoldenPrompt& prompt = golden->prompts[i];
    SCOPED_TRACE(testing::Message() << name << ", prompt " << i);
    largest = std::max(largest, CheckLogits(prompt, golden->logits_every,
                                            (*logits)[i], tolerance));
    std::vector<int32_t> tokens;
    for (const auto& row : (*logits)[i]) tokens.push_back(ArgMax(row));
    EXPECT_EQ(tokens, prompt.tokens);
  }
  testing::Test::RecordProperty("largest_difference", std::to_string(largest));
}

void ExpectGoldenRounded(const std::string& name, const GoldenRun& run) {
  const auto golden = ReadGolden(name);
  ASSERT_TRUE(golden.ok()) << golden.status();
  ASSERT_GT(golden->bf16_error, 0);
  const float tolerance = 2 * golden->bf16_error;
  const auto logits = RunGolden(name, *golden, run);
  ASSERT_TRUE(logits.ok()) << logits.status();
  float largest = 0;
  int num_compared = 0, num_close = 0, num_other = 0;
  for (size_t i = 0; i < golden->prompts.size(); ++i) {
    const GoldenPrompt& prompt = golden->prompts[i];
    SCOPED_TRACE(testing::Message() << name << ", prompt " << i);
    largest = std::max(largest, CheckLogits(prompt, golden->logits_every,
                                            (*logits)[i], tolerance));
    for (size_t kept = 0; kept < prompt.logits.size(); ++kept) {
      const size_t step = kept * golden->logits_every;
      const int32_t token = ArgMax((*logits)[i][step]);
      if (Gap(prompt.logits[kept]) <= 2 * tolerance) {
        ++num_close;
        num_other += token != prompt.tokens[step];
        continue;
      }
      EXPECT_EQ(token, prompt.tokens[step]);
      ++num_compared;
    }
  }
  EXPECT_GT(num_compared, 0) << "the tolerance hides every token";
  std::cout << name << ": " << num_compared << " tokens equal, " << num_close
            << " with a lead below the tolerance of " << tolerance
            << ", of which " << num_other << " are others; logits off by "
            << largest << " at most\n";
  testing::Test::RecordProperty("largest_difference", std::to_string(largest));
  testing::Test::RecordProperty("num_compared", num_compared);
}

}  // namespace quire
