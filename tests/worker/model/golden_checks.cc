// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/model/golden_checks.h"

#include <algorithm>
#include <iostream>
#include <vector>

namespace quire {
namespace {

using testing::AssertionFailure;
using testing::AssertionResult;
using testing::AssertionSuccess;

using Rows = std::vector<std::vector<float>>;  // [step][vocab_size]

// Whether kept rows are; raises `largest` to their largest difference.
AssertionResult AreWithin(float tolerance, const GoldenPrompt& prompt,
                          int32_t every, const Rows& logits, float* largest) {
  for (size_t kept = 0; kept < prompt.logits.size(); ++kept) {
    const float difference =
        MaxDifference(prompt.logits[kept], logits[kept * every]);
    *largest = std::max(*largest, difference);
    if (difference <= tolerance) continue;
    return AssertionFailure()
           << "logits of step " << kept * every << " differ by " << difference
           << ", may by " << tolerance;
  }
  return AssertionSuccess();
}

AssertionResult AreTheTokens(const GoldenPrompt& prompt, const Rows& logits) {
  std::vector<int32_t> tokens;
  for (const auto& row : logits) tokens.push_back(ArgMax(row));
  if (tokens == prompt.tokens) return AssertionSuccess();
  return AssertionFailure()
         << "tokens are " << testing::PrintToString(tokens) << ", not "
         << testing::PrintToString(prompt.tokens);
}

// Tokens that are compared with golden ones, and those that rounding may
// change.
struct ComparedTokens {
  int num_compared = 0;
  int num_close = 0;
  int num_other = 0;  // of the close
};

// Of kept rows whose golden gap is more than `min_gap`.
AssertionResult AreTheClearTokens(const GoldenPrompt& prompt, int32_t every,
                                  const Rows& logits, float min_gap,
                                  ComparedTokens* counts) {
  for (size_t kept = 0; kept < prompt.logits.size(); ++kept) {
    const size_t step = kept * every;
    const int32_t token = ArgMax(logits[step]);
    if (Gap(prompt.logits[kept]) <= min_gap) {
      ++counts->num_close;
      counts->num_other += token != prompt.tokens[step];
      continue;
    }
    if (token != prompt.tokens[step]) {
      return AssertionFailure() << "token " << token << " of step " << step
                                << " is not " << prompt.tokens[step];
    }
    ++counts->num_compared;
  }
  return AssertionSuccess();
}

}  // namespace

AssertionResult AgreesWithGolden(const std::string& name, const GoldenRun& run,
                                 float tolerance) {
  const auto golden = ReadGolden(name);
  if (!golden.ok()) return AssertionFailure() << golden.status();
  const auto logits = RunGolden(name, *golden, run);
  if (!logits.ok()) return AssertionFailure() << logits.status();
  float largest = 0;
  for (size_t i = 0; i < golden->prompts.size(); ++i) {
    const GoldenPrompt& prompt = golden->prompts[i];
    const Rows& rows = (*logits)[i];
    AssertionResult agrees =
        AreWithin(tolerance, prompt, golden->logits_every, rows, &largest);
    if (agrees) agrees = AreTheTokens(prompt, rows);
    if (!agrees) return agrees << "; " << name << ", prompt " << i;
  }
  testing::Test::RecordProperty("largest_difference", std::to_string(largest));
  return AssertionSuccess();
}

AssertionResult AgreesWithGoldenRounded(const std::string& name,
                                        const GoldenRun& run) {
  const auto golden = ReadGolden(name);
  if (!golden.ok()) return AssertionFailure() << golden.status();
  if (golden->bf16_error <= 0) {
    return AssertionFailure() << name << " has no bfloat16 logits of torch's";
  }
  const float tolerance = 2 * golden->bf16_error;
  const auto logits = RunGolden(name, *golden, run);
  if (!logits.ok()) return AssertionFailure() << logits.status();
  float largest = 0;
  ComparedTokens counts;
  for (size_t i = 0; i < golden->prompts.size(); ++i) {
    const GoldenPrompt& prompt = golden->prompts[i];
    const Rows& rows = (*logits)[i];
    AssertionResult agrees =
        AreWithin(tolerance, prompt, golden->logits_every, rows, &largest);
    if (agrees) {
      agrees = AreTheClearTokens(prompt, golden->logits_every, rows,
                                 2 * tolerance, &counts);
    }
    if (!agrees) return agrees << "; " << name << ", prompt " << i;
  }
  if (counts.num_compared == 0) {
    return AssertionFailure() << "the tolerance hides every token of " << name;
  }
  std::cout << name << ": " << counts.num_compared << " tokens equal, "
            << counts.num_close << " with a lead below the tolerance of "
            << tolerance << ", of which " << counts.num_other
            << " are others; logits off by " << largest << " at most\n";
  testing::Test::RecordProperty("largest_difference", std::to_string(largest));
  testing::Test::RecordProperty("num_compared", counts.num_compared);
  return AssertionSuccess();
}

}  // namespace quire
