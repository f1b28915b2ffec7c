// SPDX-License-Identifier: Apache-2.0
//
// The demo model says in Quire what it says in transformers: its prompts encode
// to the same ids, raw and through the chat template, and greedy decoding in
// float32 yields the recorded tokens on one rank and on two. The recorded
// choices are at least 0.06 apart in their logits, far more than float32 sums
// of this depth can move them (about 1e-4).
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/text/chat_prompt.h"
#include "common/text/chat_template.h"
#include "common/text/tokenizer.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

class DemoModelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::ifstream file(
        Runfile("tests/golden/demo_model/expected_samples.json"));
    golden_ = nlohmann::json::parse(file, nullptr, false);
    ASSERT_FALSE(golden_.is_discarded());
    ASSERT_GE(golden_["samples"].size(), 10u);
    model_ = ModelFolder("tools/demo_model/model");
  }

  nlohmann::json golden_;
  std::string model_;
};

TEST_F(DemoModelTest, PromptsEncodeAsRecorded) {
  const std::string config = absl::StrCat(model_, "/tokenizer_config.json");
  const auto tokenizer =
      Tokenizer::Load(absl::StrCat(model_, "/tokenizer.json"), config);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto chat_template = ChatTemplate::FromTokenizerConfig(config);
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  for (const auto& sample : golden_["samples"]) {
    absl::StatusOr<std::vector<TokenId>> ids;
    if (sample.contains("prompt")) {
      ids = (*tokenizer)
                ->Encode(sample["prompt"].get<std::string>(),
                         {.add_special_tokens = true});
    } else {
      std::vector<ChatMessage> messages;
      for (const auto& message : sample["messages"]) {
        messages.push_back({message["role"], message["content"], ""});
      }
      ids = EncodeChat(**tokenizer, **chat_template, messages);
    }
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, sample["prompt_token_ids"].get<std::vector<TokenId>>());
    const auto text =
        (*tokenizer)
            ->Decode(sample["output_token_ids"].get<std::vector<TokenId>>(),
                     /*skip_special_tokens=*/true);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, sample["output_text"].get<std::string>());
  }
}

TEST_F(DemoModelTest, GreedyTokensAreThoseOfTransformers) {
  for (int32_t tensor_parallel_size : {1, 2}) {
    InProcessSetting setting;
    setting.model = model_;
    setting.dtype = DType::kF32;
    setting.tensor_parallel_size = tensor_parallel_size;
    std::vector<EngineRequest> requests;
    for (const auto& sample : golden_["samples"]) {
      EngineRequest request;
      request.request_id = absl::StrCat("r", requests.size());
      request.prompt = sample["prompt_token_ids"].get<std::vector<TokenId>>();
      request.sampling.slot.temperature = 0;
      request.sampling.max_tokens = golden_["max_tokens"];
      request.sampling.stop_token_ids =
          golden_["eos_token_ids"].get<std::vector<TokenId>>();
      requests.push_back(request);
    }
    const InProcessRun run = RunInProcess(setting, requests);
    ASSERT_EQ(run.streams.size(), golden_["samples"].size());
    for (size_t i = 0; i < run.streams.size(); ++i) {
      const auto& sample = golden_["samples"][i];
      EXPECT_EQ(run.streams[i],
                sample["output_token_ids"].get<std::vector<TokenId>>())
          << "sample " << i << ", TP " << tensor_parallel_size;
      EXPECT_EQ(run.finish_reasons[i] == FinishReason::kStop,
                sample["finish_reason"] == "stop");
    }
  }
}

}  // namespace
}  // namespace quire
