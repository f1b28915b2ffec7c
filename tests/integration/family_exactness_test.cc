// SPDX-License-Identifier: Apache-2.0
//
// Every family keeps the promise of exactness_test.cc. A model with a sliding
// window smaller than its prompts gives the same tokens, bitwise, whether
// blocks behind the window are kept or given to others: whatever the chunks,
// the blocks, the preemptions and whoever shares them.
#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/integration/in_process.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

constexpr char kWindowed[] = "mistral_window";
constexpr int kWindow = 12;      // of its config
constexpr int kVocabSize = 256;  // of the smallest model

using Streams = std::vector<std::vector<TokenId>>;

// Every third begins like the others of its kind; some ask for two answers,
// some for the two best of three beams.
std::vector<EngineRequest> Requests() {
  std::mt19937 random(20231010);
  std::vector<EngineRequest> requests(24);
  for (int i = 0; i < static_cast<int>(requests.size()); ++i) {
    EngineRequest& request = requests[i];
    request.request_id = absl::StrCat("r", i);
    if (i % 3 == 0) {
      for (int t = 0; t < 70; ++t) request.prompt.push_back(3 + t);
    }
    const int num_prompt_tokens = 1 + static_cast<int>(random() % 90);
    for (int t = 0; t < num_prompt_tokens; ++t) {
      request.prompt.push_back(static_cast<TokenId>(random() % kVocabSize));
    }
    SamplingParams& sampling = request.sampling;
    sampling.max_tokens = 20 + static_cast<int>(random() % 40);
    sampling.slot.seed = random();
    sampling.slot.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    if (i % 4 == 1) sampling.n = sampling.best_of = 2;
    if (i % 8 == 6) {
      sampling.beam_width = 3;
      sampling.n = sampling.best_of = 2;
    }
  }
  return requests;
}

Streams StreamsOf(const InProcessRun& run) {
  Streams streams;
  for (const std::vector<HeardSequence>& request : run.sequences) {
    for (const HeardSequence& seq : request) streams.push_back(seq.tokens);
  }
  return streams;
}

// One request after the other, every block kept, nothing shared.
const Streams& Alone(const std::string& model, int32_t tensor_parallel_size) {
  static auto* cache = new std::map<std::pair<std::string, int32_t>, Streams>;
  Streams& streams = (*cache)[{model, tensor_parallel_size}];
  if (streams.empty()) {
    InProcessSetting alone;
    alone.model = ModelFolder("tests/golden/" + model);
    alone.tensor_parallel_size = tensor_parallel_size;
    alone.run_ahead_depth = 1;
    alone.enable_prefix_caching = false;
    for (const EngineRequest& request : Requests()) {
      for (std::vector<TokenId>& stream :
           StreamsOf(RunInProcess(alone, {request}))) {
        streams.push_back(std::move(stream));
      }
    }
  }
  return streams;
}

class FamilyExactnessTest : public testing::TestWithParam<InProcessSetting> {};

TEST_P(FamilyExactnessTest, EveryStreamIsThatOfTheRequestWithAllBlocksKept) {
  InProcessSetting setting = GetParam();
  const Streams& expected = Alone(setting.model, setting.tensor_parallel_size);
  setting.model = ModelFolder("tests/golden/" + setting.model);
  const InProcessRun run = RunInProcess(setting, Requests());
  const Streams streams = StreamsOf(run);
  ASSERT_EQ(streams.size(), expected.size());
  for (size_t i = 0; i < streams.size(); ++i) {
    EXPECT_FALSE(streams[i].empty());
    EXPECT_EQ(streams[i], expected[i]) << "sequence " << i << " of all";
  }
  if (setting.forced_preemption_period > 0) {
    EXPECT_GT(run.num_preemptions, 0);
  }
  if (setting.num_host_blocks > 0) {
    EXPECT_GT(run.num_swapped_blocks, 0);
  }
  // A pool of a few windows keeps no prefix for long.
  if (setting.num_blocks >= 4096) {
    EXPECT_EQ(run.num_cache_hit_tokens > 0, setting.enable_prefix_caching);
  }
}

std::vector<InProcessSetting> Settings() {
  std::vector<InProcessSetting> settings;
  const auto add = [&](auto change) {
    for (int32_t tensor_parallel_size : {1, 2}) {
      InProcessSetting setting;
      setting.tensor_parallel_size = tensor_parallel_size;
      setting.model = kWindowed;
      setting.sliding_window = kWindow;
      setting.block_size = 4;
      change(setting);
      settings.push_back(setting);
    }
  };
  for (int32_t chunk : {3, 16, 64, 512}) {
    add([&](InProcessSetting& s) { s.max_num_batched_tokens = chunk; });
  }
  for (int32_t block_size : {1, 8, 16}) {
    add([&](InProcessSetting& s) { s.block_size = block_size; });
  }
  add([](InProcessSetting& s) { s.enable_prefix_caching = false; });
  add([](InProcessSetting& s) { s.forced_preemption_period = 3; });
  // Fewer blocks than most prompts have: 60 tokens of up to 160.
  add([](InProcessSetting& s) {
    s.num_blocks = 15;
    s.max_num_batched_tokens = 16;
  });
  add([](InProcessSetting& s) {
    s.num_blocks = 15;
    s.max_num_batched_tokens = 16;
    s.forced_preemption_period = 5;
    s.preemption_mode = PreemptionMode::kSwap;
    s.num_host_blocks = 40;
  });
  for (const char* model :
       {"llama_gqa", "llama3_rope", "llama_dynamic_rope", "llama_yarn_rope",
        "llama_long_rope", "qwen2_mixed_windows", "qwen3_tied", "gpt2_plain",
        "phi_gqa", "phi_qk_norm", "opt_pre_norm", "opt_350m", "mixtral_plain",
        "qwen2_moe_shared", "qwen3_moe_plain"}) {
    add([model](InProcessSetting& s) {
      s.model = model;
      s.sliding_window = 0;
      s.max_num_batched_tokens = 16;
      s.forced_preemption_period = 4;
    });
  }
  // Experts share each step's tokens anew.
  for (const char* model : {"mixtral_window", "qwen2_moe_shared"}) {
    const int32_t window = model == std::string("mixtral_window") ? kWindow : 0;
    add([=](InProcessSetting& s) {
      s.model = model;
      s.sliding_window = window;
      s.max_num_batched_tokens = 512;
    });
    add([=](InProcessSetting& s) {
      s.model = model;
      s.sliding_window = window;
      s.max_num_batched_tokens = 3;
      s.enable_prefix_caching = false;
    });
    if (window == 0) continue;  // too large for a pool that must swap
    add([=](InProcessSetting& s) {
      s.model = model;
      s.sliding_window = window;
      s.num_blocks = 15;
      s.max_num_batched_tokens = 16;
      s.forced_preemption_period = 5;
      s.preemption_mode = PreemptionMode::kSwap;
      s.num_host_blocks = 400;
    });
  }
  return settings;
}

std::string Name(const testing::TestParamInfo<InProcessSetting>& info) {
  const InProcessSetting& s = info.param;
  return absl::StrCat(s.model, "_tp", s.tensor_parallel_size, "tokens",
                      s.max_num_batched_tokens, "block", s.block_size, "of",
                      s.num_blocks, "force", s.forced_preemption_period, "host",
                      s.num_host_blocks,
                      s.enable_prefix_caching ? "" : "uncached");
}

INSTANTIATE_TEST_SUITE_P(Schedules, FamilyExactnessTest,
                         testing::ValuesIn(Settings()), Name);

}  // namespace
}  // namespace quire
