// SPDX-License-Identifier: Apache-2.0
//
// Beam searches of the whole engine over real executors find what Hugging Face
// transformers finds (tests/golden/make_beams.py): the same token ids, ranked
// by the same scores, whoever else runs and whoever is preempted.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

// Each log probability of the golden searches could be off by this much, either
// way, without another result. Float32 sums in another order are off by less.
constexpr double kNoise = 1e-4;

struct Search {
  EngineRequest request;
  std::vector<std::vector<TokenId>> tokens;  // best first
  std::vector<double> scores;
};

EarlyStopping ReadEarlyStopping(const nlohmann::json& json) {
  if (json.is_string()) return EarlyStopping::kNever;
  return json.get<bool>() ? EarlyStopping::kTrue : EarlyStopping::kFalse;
}

std::vector<Search> ReadSearches(const std::string& model) {
  std::ifstream file(
      Runfile(absl::StrCat("tests/golden/beams/", model, ".json")));
  const nlohmann::json golden = nlohmann::json::parse(file);
  std::vector<Search> searches;
  for (const nlohmann::json& json : golden["searches"]) {
    Search& search = searches.emplace_back();
    EngineRequest& request = search.request;
    request.request_id = absl::StrCat("r", searches.size());
    request.prompt = golden["prompts"][json["prompt"].get<int>()]
                         .get<std::vector<TokenId>>();
    SamplingParams& sampling = request.sampling;
    sampling.beam_width = json["width"];
    sampling.n = json["n"];
    sampling.best_of = sampling.beam_width;
    sampling.length_penalty = json["length_penalty"];
    sampling.early_stopping = ReadEarlyStopping(json["early_stopping"]);
    sampling.stop_token_ids =
        json["stop_token_ids"].get<std::vector<TokenId>>();
    sampling.max_tokens = json["max_tokens"];
    sampling.slot.temperature = 0;
    sampling.slot.min_tokens = json["min_tokens"];
    sampling.slot.num_logprobs = 0;
    for (const nlohmann::json& found : json["found"]) {
      search.tokens.push_back(found["tokens"].get<std::vector<TokenId>>());
      search.scores.push_back(found["score"]);
    }
  }
  return searches;
}

void ExpectFound(const Search& search,
                 const std::vector<HeardSequence>& heard) {
  ASSERT_EQ(heard.size(), search.tokens.size());
  const SamplingParams& sampling = search.request.sampling;
  for (size_t i = 0; i < heard.size(); ++i) {
    EXPECT_EQ(heard[i].tokens, search.tokens[i]) << "hypothesis " << i;
    ASSERT_EQ(heard[i].logprobs.size(), heard[i].tokens.size());
    double sum = 0;
    for (float logprob : heard[i].logprobs) sum += logprob;
    const double num_tokens = static_cast<double>(heard[i].tokens.size());
    const double divisor =
        std::pow(num_tokens, double{sampling.length_penalty});
    EXPECT_NEAR(sum / divisor, search.scores[i], num_tokens * kNoise / divisor)
        << "hypothesis " << i;
    const std::vector<TokenId>& stops = sampling.stop_token_ids;
    const bool stopped = std::find(stops.begin(), stops.end(),
                                   heard[i].tokens.back()) != stops.end();
    EXPECT_EQ(heard[i].finish_reason,
              stopped ? FinishReason::kStop : FinishReason::kLength);
  }
}

using Param = std::tuple<std::string, InProcessSetting>;

class BeamGoldenTest : public testing::TestWithParam<Param> {};

TEST_P(BeamGoldenTest, SearchesFindWhatTransformersFinds) {
  const std::string model = std::get<0>(GetParam());
  InProcessSetting setting = std::get<1>(GetParam());
  setting.model = ModelFolder(absl::StrCat("tests/golden/", model));
  setting.dtype = DType::kF32;
  const std::vector<Search> searches = ReadSearches(model);
  std::vector<EngineRequest> requests;
  for (const Search& search : searches) {
    requests.push_back(search.request);
    // Whoever samples beside them runs ahead as ever.
    EngineRequest other = search.request;
    other.request_id = absl::StrCat("other", requests.size());
    other.sampling.beam_width = 0;
    other.sampling.n = other.sampling.best_of = 1;
    other.sampling.slot.num_logprobs = -1;
    if (requests.size() % 3 == 0) requests.push_back(other);
  }
  const InProcessRun run = RunInProcess(setting, requests);
  size_t next = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].sampling.beam_width == 0) continue;
    SCOPED_TRACE(absl::StrCat("search ", next));
    ExpectFound(searches[next++], run.sequences[i]);
  }
  EXPECT_EQ(next, searches.size());
  EXPECT_GT(next, 50);
  const bool must_preempt =
      setting.forced_preemption_period > 0 || setting.num_blocks < 4096;
  EXPECT_EQ(run.num_preemptions > 0, must_preempt);
}

std::vector<InProcessSetting> Settings() {
  std::vector<InProcessSetting> settings;
  const auto add = [&](auto change) {
    InProcessSetting setting;
    setting.max_model_len = 80;
    setting.max_num_seqs = 40;
    change(setting);
    settings.push_back(setting);
  };
  add([](InProcessSetting&) {});
  add([](InProcessSetting& s) { s.tensor_parallel_size = 2; });
  add([](InProcessSetting& s) { s.block_size = 1; });
  add([](InProcessSetting& s) {
    s.block_size = 4;
    s.max_num_seqs = 16;
    s.run_ahead_depth = 1;
  });
  // Steps too small for all beams of a search.
  add([](InProcessSetting& s) { s.max_num_batched_tokens = 10; });
  add([](InProcessSetting& s) { s.forced_preemption_period = 3; });
  add([](InProcessSetting& s) {
    s.block_size = 8;
    s.forced_preemption_period = 5;
    s.tensor_parallel_size = 2;
  });
  // Room for little more than the largest search alone.
  add([](InProcessSetting& s) {
    s.block_size = 4;
    s.num_blocks = 300;
    s.max_num_seqs = 250;
  });
  return settings;
}

std::string Name(const testing::TestParamInfo<Param>& info) {
  const auto& [model, s] = info.param;
  return absl::StrCat(model, "tp", s.tensor_parallel_size, "seqs",
                      s.max_num_seqs, "tokens", s.max_num_batched_tokens,
                      "block", s.block_size, "of", s.num_blocks, "force",
                      s.forced_preemption_period, "ahead", s.run_ahead_depth);
}

INSTANTIATE_TEST_SUITE_P(Schedules, BeamGoldenTest,
                         testing::Combine(testing::Values("llama_gqa",
                                                          "opt_pre_norm"),
                                          testing::ValuesIn(Settings())),
                         Name);

}  // namespace
}  // namespace quire
