// SPDX-License-Identifier: Apache-2.0
//
// Log probabilities of prompts and outputs are those of Hugging Face
// transformers (tests/golden/make_logprobs.py), however the prompt is cut into
// chunks, on one rank and on two, preempted or not.
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

// Float32 logits of these models agree within 1e-5; their differences too.
constexpr double kTolerance = 1e-4;
constexpr int32_t kNumTop = 20;

void ExpectScore(const SampledLogprobs& score, const nlohmann::json& golden) {
  EXPECT_NEAR(score.logprob, golden["logprob"].get<double>(), kTolerance);
  ASSERT_EQ(score.top.size(), kNumTop);
  const auto ids = golden["top_ids"].get<std::vector<TokenId>>();
  const auto logprobs = golden["top_logprobs"].get<std::vector<double>>();
  bool is_tied = false;  // to the tolerance, so that neighbours may swap
  for (int32_t i = 0; i < kNumTop; ++i) {
    EXPECT_NEAR(score.top[i].logprob, logprobs[i], kTolerance);
    is_tied = is_tied || (i > 0 && logprobs[i - 1] - logprobs[i] < kTolerance);
  }
  if (is_tied) return;
  EXPECT_EQ(score.rank, golden["rank"].get<int32_t>());
  for (int32_t i = 0; i + 1 < kNumTop; ++i) {
    EXPECT_EQ(score.top[i].token_id, ids[i]) << "place " << i;
  }
}

class LogprobGoldenTest : public testing::TestWithParam<const char*> {};

TEST_P(LogprobGoldenTest, PromptsAndOutputsAreAsLikelyAsInTransformers) {
  const std::string name = GetParam();
  std::ifstream file(
      Runfile(absl::StrCat("tests/golden/logprobs/", name, ".json")));
  const nlohmann::json golden = nlohmann::json::parse(file);
  InProcessSetting setting;
  setting.model = ModelFolder(absl::StrCat("tests/golden/", name));
  setting.dtype = DType::kF32;
  setting.max_model_len = 128;
  setting.max_num_seqs = 6;  // fewer rows than prompt tokens
  setting.num_blocks = 128;
  setting.sliding_window = name == "mistral_window" ? 12 : 0;
  std::vector<EngineRequest> requests;
  for (const nlohmann::json& prompt : golden["prompts"]) {
    EngineRequest& request = requests.emplace_back();
    request.request_id = absl::StrCat("r", requests.size());
    request.prompt.push_back(prompt["first"]);
    for (const auto& score : prompt["prompt"]) {
      request.prompt.push_back(score["token"]);
    }
    request.sampling.max_tokens =
        static_cast<int32_t>(prompt["outputs"].size());
    request.sampling.slot.temperature = 0;
    request.sampling.slot.num_logprobs = kNumTop;
    request.sampling.slot.num_prompt_logprobs = kNumTop;
  }
  struct {
    int32_t num_ranks;
    int32_t num_batched_tokens;
    int32_t preemption_period;
  } const kSettings[] = {{1, 256, 0}, {2, 7, 0}, {1, 9, 3}};
  for (const auto& s : kSettings) {
    SCOPED_TRACE(absl::StrCat(s.num_ranks, " ranks, ", s.num_batched_tokens,
                              " tokens a step"));
    setting.tensor_parallel_size = s.num_ranks;
    setting.max_num_batched_tokens = s.num_batched_tokens;
    setting.forced_preemption_period = s.preemption_period;
    const InProcessRun run = RunInProcess(setting, requests);
    ASSERT_EQ(run.sequences.size(), requests.size());
    for (size_t r = 0; r < requests.size(); ++r) {
      const nlohmann::json& prompt = golden["prompts"][r];
      ASSERT_EQ(run.prompt_scores[r].size(), prompt["prompt"].size());
      for (size_t i = 0; i < prompt["prompt"].size(); ++i) {
        SCOPED_TRACE(absl::StrCat("request ", r, " prompt token ", i + 1));
        ExpectScore(run.prompt_scores[r][i], prompt["prompt"][i]);
      }
      const HeardSequence& heard = run.sequences[r][0];
      ASSERT_EQ(heard.scores.size(), prompt["outputs"].size());
      for (size_t i = 0; i < heard.scores.size(); ++i) {
        SCOPED_TRACE(absl::StrCat("request ", r, " output ", i));
        EXPECT_EQ(heard.tokens[i], prompt["outputs"][i]["token"]);
        ExpectScore(heard.scores[i], prompt["outputs"][i]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LogprobGoldenTest,
                         testing::Values("gpt2_plain", "llama_gqa",
                                         "mistral_window", "mixtral_plain",
                                         "opt_350m", "phi_partial",
                                         "qwen2_bias", "qwen2_moe_shared",
                                         "qwen3_moe_plain", "qwen3_tied"));

}  // namespace
}  // namespace quire
