// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

namespace quire {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr PromptLimits kLimits = {.vocab_size = 50, .max_model_len = 2048};

std::string WriteFile(const std::string& text) {
  const std::string path = testing::TempDir() + "/dataset.jsonl";
  std::ofstream(path) << text;
  return path;
}

DatasetOptions FileOptions(const std::string& name, const std::string& text) {
  DatasetOptions options;
  options.name = name;
  options.path = WriteFile(text);
  return options;
}

std::string ErrorOf(const DatasetOptions& options, int64_t num_prompts = 10) {
  return std::string(
      MakePrompts(options, kLimits, num_prompts, 1).status().message());
}

TEST(DatasetTest, RandomPromptsHaveTheirLengthsAndKnownTokens) {
  DatasetOptions options;
  options.random_input_len = 100;
  options.random_output_len = 7;
  const auto prompts = MakePrompts(options, kLimits, 20, /*seed=*/1);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  ASSERT_EQ(prompts->size(), 20);
  std::set<uint32_t> seen;
  for (const LoadPrompt& prompt : *prompts) {
    EXPECT_EQ(prompt.num_tokens(), 100);
    EXPECT_EQ(prompt.output_len, 7);
    seen.insert(prompt.token_ids.begin(), prompt.token_ids.end());
  }
  // 2000 draws miss one of 50 ids with probability below 1e-15.
  EXPECT_EQ(seen.size(), 50);
  EXPECT_EQ(*seen.rbegin(), 49);
}

TEST(DatasetTest, RangedLengthsStayInTheirRange) {
  DatasetOptions options;
  options.random_input_len = 100;
  options.random_output_len = 10;
  options.random_range_ratio = 0.5;
  options.random_prefix_len = 8;
  const auto prompts = MakePrompts(options, kLimits, 500, /*seed=*/1);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  std::set<int64_t> input_lens, output_lens;
  for (const LoadPrompt& prompt : *prompts) {
    input_lens.insert(prompt.num_tokens() - 8);
    output_lens.insert(prompt.output_len);
    EXPECT_TRUE(std::equal(prompt.token_ids.begin(),
                           prompt.token_ids.begin() + 8,
                           prompts->front().token_ids.begin()));
  }
  EXPECT_GE(*input_lens.begin(), 50);
  EXPECT_LE(*input_lens.rbegin(), 150);
  EXPECT_GT(input_lens.size(), 50);  // of 101 lengths in 500 draws
  EXPECT_EQ(*output_lens.begin(), 5);
  EXPECT_EQ(*output_lens.rbegin(), 15);
}

TEST(DatasetTest, PrefixesRepeat) {
  DatasetOptions options;
  options.name = "prefix_repetition";
  options.prefix_repetition_prefix_len = 16;
  options.prefix_repetition_suffix_len = 4;
  options.prefix_repetition_num_prefixes = 3;
  const auto prompts = MakePrompts(options, kLimits, 100, /*seed=*/1);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  std::set<std::vector<uint32_t>> prefixes;
  for (const LoadPrompt& prompt : *prompts) {
    ASSERT_EQ(prompt.num_tokens(), 20);
    prefixes.insert({prompt.token_ids.begin(), prompt.token_ids.begin() + 16});
  }
  EXPECT_EQ(prefixes.size(), 3);
}

TEST(DatasetTest, LengthsComeFromTheFileAndRepeat) {
  const auto prompts =
      MakePrompts(FileOptions("lengths",
                              "{\"prompt_len\": 5, \"output_len\": 2}\n\n"
                              "{\"prompt_len\": 9, \"output_len\": 1}\n"),
                  kLimits, 3, /*seed=*/1);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_EQ((*prompts)[0].num_tokens(), 5);
  EXPECT_EQ((*prompts)[0].output_len, 2);
  EXPECT_EQ((*prompts)[1].num_tokens(), 9);
  EXPECT_EQ((*prompts)[2].num_tokens(), 5);
  EXPECT_NE((*prompts)[2].token_ids, (*prompts)[0].token_ids);
}

TEST(DatasetTest, CustomPromptsAreText) {
  DatasetOptions options = FileOptions(
      "custom",
      "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"output_tokens\": 3}\n");
  options.custom_output_len = 11;
  const auto prompts = MakePrompts(options, kLimits, 2, /*seed=*/1);
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_EQ((*prompts)[0].text, "a");
  EXPECT_EQ((*prompts)[0].output_len, 11);
  EXPECT_EQ((*prompts)[1].output_len, 3);
}

TEST(DatasetTest, TheSeedDecidesThePrompts) {
  const DatasetOptions options;
  const auto one = MakePrompts(options, kLimits, 2, /*seed=*/1);
  const auto same = MakePrompts(options, kLimits, 2, /*seed=*/1);
  const auto other = MakePrompts(options, kLimits, 2, /*seed=*/2);
  EXPECT_EQ((*one)[1].token_ids, (*same)[1].token_ids);
  EXPECT_NE((*one)[1].token_ids, (*other)[1].token_ids);
}

TEST(DatasetTest, MalformedLinesAreNamed) {
  const std::string good = "{\"prompt_len\": 5, \"output_len\": 2}\n";
  EXPECT_THAT(ErrorOf(FileOptions("lengths", good + "nonsense\n")),
              EndsWith("dataset.jsonl:2: not a JSON object"));
  EXPECT_THAT(ErrorOf(FileOptions("lengths", good + "{\"prompt_len\": 5}")),
              EndsWith(":2: no \"output_len\""));
  EXPECT_THAT(
      ErrorOf(
          FileOptions("lengths", "{\"prompt_len\": -5, \"output_len\": 2}")),
      EndsWith(":1: \"prompt_len\" is -5, not a whole number in 1..16777216"));
  EXPECT_THAT(ErrorOf(FileOptions("lengths",
                                  "{\"prompt_len\": 5.5, \"output_len\": 2}")),
              HasSubstr("\"prompt_len\" is 5.5, not a whole number"));
  EXPECT_THAT(ErrorOf(FileOptions("lengths",
                                  "{\"prompt_len\": 18446744073709551615, "
                                  "\"output_len\": 2}")),
              HasSubstr("not a whole number in"));
  EXPECT_THAT(ErrorOf(FileOptions("custom", "{\"prompt\": 3}")),
              EndsWith(":1: no text in \"prompt\""));
  EXPECT_THAT(ErrorOf(FileOptions("lengths", "\n \n")),
              EndsWith("holds no request"));
}

TEST(DatasetTest, MissingFilesAndUnknownNamesAreRefused) {
  DatasetOptions options;
  options.name = "lengths";
  EXPECT_EQ(ErrorOf(options), "--dataset_name=lengths needs a --dataset_path");
  options.path = "/nowhere/at.all";
  EXPECT_EQ(ErrorOf(options), "cannot read --dataset_path=/nowhere/at.all");
  options.name = "sharegpt4";
  EXPECT_THAT(ErrorOf(options), HasSubstr("--dataset_name=sharegpt4 is not"));
}

TEST(DatasetTest, RequestsBeyondTheWindowAreRefusedBeforeTheRun) {
  DatasetOptions options;
  options.random_input_len = 2000;
  options.random_output_len = 100;
  EXPECT_THAT(ErrorOf(options),
              HasSubstr("2000 prompt and 100 output tokens, more than the "
                        "model's 2048-token window"));
}

}  // namespace
}  // namespace quire
