// SPDX-License-Identifier: Apache-2.0
//
// A whole model inside the test's process.
#include "tools/embedded/llm.h"

#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

LLMOptions Options() {
  LLMOptions options;
  options.model = ModelFolder("tools/demo_model/model");
  options.num_threads = 1;
  options.max_model_len = 256;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 64;
  options.num_blocks_override = 64;
  options.swap_space_bytes = 0;
  options.show_progress = false;
  return options;
}

v1::SamplingParams Greedy(uint32_t max_tokens) {
  v1::SamplingParams sampling;
  sampling.set_temperature(0);
  sampling.set_max_tokens(max_tokens);
  sampling.set_ignore_eos(true);
  return sampling;
}

void ExpectNoLeak(const LLM& llm) {
  const EngineStats stats = llm.stats();
  EXPECT_EQ(stats.num_running + stats.num_waiting, 0);
  EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks, stats.num_blocks);
}

TEST(LLMTest, AnswersInTheOrderOfThePrompts) {
  LLM llm(Options());
  ASSERT_TRUE(llm.status().ok()) << llm.status();
  // More than the engine takes at once.
  std::vector<std::string> prompts;
  for (int i = 0; i < 20; ++i) {
    prompts.push_back("Story number " + std::to_string(i) + ":");
  }
  const std::vector<LLMResult> all = llm.Generate(prompts, Greedy(12));
  ASSERT_EQ(all.size(), prompts.size());
  for (const int i : {0, 7, 19}) {
    const std::vector<LLMResult> alone = llm.Generate({prompts[i]}, Greedy(12));
    ASSERT_TRUE(all[i].status.ok()) << all[i].status;
    ASSERT_EQ(all[i].answers.size(), 1u);
    EXPECT_EQ(all[i].answers[0].token_ids.size(), 12u);
    EXPECT_EQ(all[i].answers[0].token_ids, alone[0].answers[0].token_ids);
    EXPECT_EQ(all[i].answers[0].text, alone[0].answers[0].text);
    EXPECT_EQ(all[i].answers[0].finish_reason, v1::FINISH_REASON_LENGTH);
    EXPECT_EQ(all[i].complete.usage().output_tokens(), 12u);
  }
  ExpectNoLeak(llm);
}

TEST(LLMTest, RanksInOneProcessGiveTheSameTokens) {
  std::vector<std::vector<uint32_t>> tokens;
  for (const int32_t tensor_parallel_size : {1, 2}) {
    LLMOptions options = Options();
    options.tensor_parallel_size = tensor_parallel_size;
    LLM llm(options);
    ASSERT_TRUE(llm.status().ok()) << llm.status();
    const auto results = llm.Generate({"Once upon a time"}, Greedy(16));
    ASSERT_TRUE(results[0].status.ok()) << results[0].status;
    tokens.push_back(results[0].answers[0].token_ids);
    ExpectNoLeak(llm);
  }
  EXPECT_EQ(tokens[0].size(), 16u);
  EXPECT_EQ(tokens[0], tokens[1]);
}

TEST(LLMTest, ABadRequestFailsAlone) {
  LLM llm(Options());
  ASSERT_TRUE(llm.status().ok()) << llm.status();
  std::vector<v1::GenerateRequest> requests(3);
  for (v1::GenerateRequest& request : requests) {
    request.set_text("Hello");
    *request.mutable_sampling() = Greedy(4);
  }
  requests[1].mutable_sampling()->set_top_p(7);
  requests[2].mutable_sampling()->clear_temperature();
  requests[2].mutable_sampling()->set_seed(3);
  requests[2].mutable_sampling()->set_n(2);
  const std::vector<LLMResult> results = llm.Generate(requests);
  EXPECT_TRUE(results[0].status.ok());
  EXPECT_EQ(results[1].status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(results[1].status.message()), HasSubstr("top_p=7"));
  ASSERT_TRUE(results[2].status.ok());
  ASSERT_EQ(results[2].answers.size(), 2u);
  EXPECT_EQ(results[2].answers[1].token_ids.size(), 4u);
  ExpectNoLeak(llm);
}

TEST(LLMTest, WhatRunsEndsWithIt) {
  absl::Notification ended;
  LLMResult result;
  {
    LLM llm(Options());
    ASSERT_TRUE(llm.status().ok()) << llm.status();
    v1::GenerateRequest request;
    request.set_text("Hello");
    *request.mutable_sampling() = Greedy(200);
    llm.Start(request, [&](LLMResult end) {
      result = std::move(end);
      ended.Notify();
    });
  }
  // Either it was quick, or it was told.
  ASSERT_TRUE(ended.HasBeenNotified());
  EXPECT_TRUE(result.status.ok() ||
              result.status.code() == absl::StatusCode::kUnavailable)
      << result.status;
}

TEST(LLMTest, AModelThatDoesNotLoadSaysWhy) {
  LLMOptions options = Options();
  options.model = "/nowhere";
  LLM missing(options);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("/nowhere"));
  const auto results = missing.Generate({"Hello"}, Greedy(1));
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].status, missing.status());
  options = Options();
  options.device = "tpu";
  EXPECT_THAT(std::string(LLM(options).status().message()), HasSubstr("tpu"));
  options = Options();
  options.max_num_seqs = 0;
  EXPECT_FALSE(LLM(options).status().ok());
}

}  // namespace
}  // namespace quire
