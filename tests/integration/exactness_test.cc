// SPDX-License-Identifier: Apache-2.0
//
// The promise itself, on a real model: a request's token ids are a function of
// the request, bitwise, whatever else is in the batch, however prompts are cut,
// however large blocks are, whoever is preempted, however far the engine runs
// ahead, whom it shares a prefix with, whether it is one of n or of a search's
// beams, how urgent it is, and through what memory its blocks have gone.
// (tests/coordinator/engine/exactness_test.cc holds the engine alone to it,
// over many more schedules.)
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

constexpr int kNumPrompts = 64;
constexpr int kVocabSize = 4096;

using Streams = std::vector<std::vector<TokenId>>;

// Half of them greedy, the others through every filter of the sampler. A third
// begin alike, every eighth asks for three answers, every sixteenth for the two
// best of three beams, and they are of five priorities.
std::vector<EngineRequest> Requests() {
  std::mt19937 random(20230906);
  std::vector<EngineRequest> requests(kNumPrompts);
  for (int i = 0; i < kNumPrompts; ++i) {
    EngineRequest& request = requests[i];
    request.request_id = absl::StrCat("r", i);
    if (i % 3 == 0) {
      for (int t = 0; t < 40; ++t) request.prompt.push_back(100 + t);
    }
    const int num_prompt_tokens = 1 + static_cast<int>(random() % 80);
    for (int t = 0; t < num_prompt_tokens; ++t) {
      request.prompt.push_back(static_cast<TokenId>(random() % kVocabSize));
    }
    SamplingParams& sampling = request.sampling;
    sampling.max_tokens = 8 + static_cast<int>(random() % 24);
    sampling.slot.seed = random();
    sampling.slot.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    if (i % 4 == 1) sampling.slot.top_p = 0.9f;
    if (i % 4 == 3) sampling.slot.top_k = 40;
    if (i % 8 == 5) sampling.slot.min_p = 0.05f;
    if (i % 6 == 1) sampling.slot.presence_penalty = 0.5f;
    if (i % 6 == 2) sampling.slot.repetition_penalty = 1.2f;
    if (i % 6 == 3) sampling.slot.frequency_penalty = 0.3f;
    if (i % 8 == 5) sampling.n = sampling.best_of = 3;
    if (i % 16 == 7) {
      sampling.slot = SlotSampling();
      sampling.slot.temperature = 0;
      sampling.beam_width = 3;
      sampling.n = sampling.best_of = 2;
    }
    request.priority = i % 5 - 2;
  }
  return requests;
}

// A request of its own for each sequence that is sampled.
std::vector<EngineRequest> Singles() {
  std::vector<EngineRequest> singles;
  for (const EngineRequest& request : Requests()) {
    if (request.sampling.beam_width > 0) {
      singles.push_back(request);
      continue;
    }
    for (int32_t index = 0; index < request.sampling.n; ++index) {
      EngineRequest& single = singles.emplace_back(request);
      single.request_id = absl::StrCat(request.request_id, "-", index);
      single.sampling.n = single.sampling.best_of = 1;
      single.sampling.slot.seed =
          SequenceSeed(request.sampling.slot.seed, index);
    }
  }
  return singles;
}

// Runs all requests under a setting.
InProcessRun RunAll(InProcessSetting setting) {
  setting.model = ModelFolder("tools/demo_model/model");
  return RunInProcess(setting, Requests());
}

Streams Flat(const InProcessRun& run) {
  Streams streams;
  for (const std::vector<HeardSequence>& request : run.sequences) {
    for (const HeardSequence& seq : request) streams.push_back(seq.tokens);
  }
  return streams;
}

// Each request with the workers to itself, one token at a time but for its
// prompt.
const Streams& Alone(int32_t tensor_parallel_size, DType dtype) {
  static auto* cache = new std::map<std::pair<int32_t, DType>, Streams>;
  Streams& streams = (*cache)[{tensor_parallel_size, dtype}];
  if (streams.empty()) {
    InProcessSetting alone;
    alone.tensor_parallel_size = tensor_parallel_size;
    alone.dtype = dtype;
    alone.max_num_seqs = 3;  // beams of one search
    alone.one_at_a_time = true;
    alone.run_ahead_depth = 1;
    alone.enable_prefix_caching = false;
    alone.model = ModelFolder("tools/demo_model/model");
    streams = Flat(RunInProcess(alone, Singles()));
  }
  return streams;
}

class ExactnessTest : public testing::TestWithParam<InProcessSetting> {};

TEST_P(ExactnessTest, EveryStreamIsThatOfTheRequestAlone) {
  const InProcessSetting& setting = GetParam();
  const Streams& expected = Alone(setting.tensor_parallel_size, setting.dtype);
  const InProcessRun run = RunAll(setting);
  const Streams streams = Flat(run);
  ASSERT_EQ(streams.size(), expected.size());
  for (size_t i = 0; i < streams.size(); ++i) {
    EXPECT_FALSE(streams[i].empty());
    EXPECT_EQ(streams[i], expected[i]) << "sequence " << i << " of all";
  }
  const bool must_preempt =
      setting.forced_preemption_period > 0 || setting.num_blocks < 4096;
  EXPECT_EQ(run.num_preemptions > 0, must_preempt);
  EXPECT_EQ(run.num_cache_hit_tokens > 0, setting.enable_prefix_caching &&
                                              setting.kv_manager == "paged" &&
                                              setting.block_size <= 32);
  const bool may_swap = setting.preemption_mode == PreemptionMode::kSwap ||
                        setting.swap_blocks_per_second > 1 ||
                        setting.demote_prefixes == PrefixDemotion::kAlways;
  EXPECT_EQ(run.num_swapped_blocks > 0, may_swap);
}

std::vector<InProcessSetting> Settings() {
  std::vector<InProcessSetting> settings;
  const auto add = [&](auto change) {
    for (int32_t tensor_parallel_size : {1, 2}) {
      InProcessSetting setting;
      setting.tensor_parallel_size = tensor_parallel_size;
      change(setting);
      settings.push_back(setting);
    }
  };
  for (int32_t batch : {3, 8, 64}) {
    add([&](InProcessSetting& s) { s.max_num_seqs = batch; });
  }
  for (int32_t chunk : {16, 64, 512}) {
    add([&](InProcessSetting& s) { s.max_num_batched_tokens = chunk; });
  }
  for (int32_t block_size : {1, 2, 8, 32, 128}) {
    add([&](InProcessSetting& s) { s.block_size = block_size; });
  }
  add([](InProcessSetting& s) { s.run_ahead_depth = 1; });
  add([](InProcessSetting& s) { s.forced_preemption_period = 3; });
  add([](InProcessSetting& s) {
    s.forced_preemption_period = 2;
    s.run_ahead_depth = 1;
    s.max_num_batched_tokens = 32;
  });
  // Too few blocks for everybody: preemption by need.
  add([](InProcessSetting& s) {
    s.num_blocks = 30;
    s.max_num_seqs = 32;
  });
  add([](InProcessSetting& s) {
    s.num_blocks = 30;
    s.max_num_seqs = 32;
    s.preemption_mode = PreemptionMode::kSwap;
    s.num_host_blocks = 40;
  });
  // Whichever way is said to be faster.
  for (const double swap_blocks_per_second : {1.0, 1e9}) {
    add([&](InProcessSetting& s) {
      s.num_blocks = 30;
      s.max_num_seqs = 32;
      s.preemption_mode = PreemptionMode::kAuto;
      s.num_host_blocks = 41;
      s.swap_blocks_per_second = swap_blocks_per_second;
      s.prefill_tokens_per_second = 1000;
    });
  }
  // Evicted prefixes share the host's memory with the preempted.
  add([](InProcessSetting& s) {
    s.num_blocks = 30;
    s.max_num_seqs = 32;
    s.preemption_mode = PreemptionMode::kSwap;
    s.demote_prefixes = PrefixDemotion::kAlways;
    s.num_host_blocks = 42;
  });
  add([](InProcessSetting& s) {
    s.num_blocks = 30;
    s.max_num_seqs = 32;
    s.enable_prefix_caching = false;
  });
  add([](InProcessSetting& s) {
    s.dtype = DType::kF32;
    s.max_num_seqs = 64;
  });
  return settings;
}

std::string Name(const testing::TestParamInfo<InProcessSetting>& info) {
  const InProcessSetting& s = info.param;
  return absl::StrCat("tp", s.tensor_parallel_size, Name(s.dtype), "seqs",
                      s.max_num_seqs, "tokens", s.max_num_batched_tokens,
                      "block", s.block_size, "of", s.num_blocks, "force",
                      s.forced_preemption_period, "ahead", s.run_ahead_depth,
                      "host", s.num_host_blocks,
                      s.swap_blocks_per_second > 1 ? "fast" : "",
                      s.enable_prefix_caching ? "" : "uncached");
}

INSTANTIATE_TEST_SUITE_P(Schedules, ExactnessTest,
                         testing::ValuesIn(Settings()), Name);

TEST(ExactnessTest, APrefixThatWasEvictedComesBackWithItsBits) {
  // Six blocks of a prefix, another request that needs the whole pool, and the
  // prefix again with another end.
  std::vector<EngineRequest> requests(3);
  for (int i = 0; i < 3; ++i) {
    EngineRequest& request = requests[i];
    request.request_id = absl::StrCat("r", i);
    for (int t = 0; t < 96; ++t) {
      request.prompt.push_back(i == 1 ? 2000 + t : 100 + 7 * t);
    }
    request.prompt.push_back(500 + i);
    request.sampling.max_tokens = 15;
    request.sampling.slot.seed = i;
  }
  InProcessSetting setting;
  setting.model = ModelFolder("tools/demo_model/model");
  setting.tensor_parallel_size = 2;
  setting.one_at_a_time = true;
  setting.num_blocks = 7;
  setting.enable_prefix_caching = false;
  const InProcessRun computed = RunInProcess(setting, requests);
  EXPECT_EQ(computed.num_swapped_blocks, 0);
  setting.enable_prefix_caching = true;
  setting.demote_prefixes = PrefixDemotion::kAlways;
  setting.num_host_blocks = 16;
  const InProcessRun copied = RunInProcess(setting, requests);
  EXPECT_EQ(copied.streams, computed.streams);
  EXPECT_EQ(copied.num_host_hit_tokens, 96);
  EXPECT_EQ(copied.num_cache_hit_tokens, 96);
}

TEST(ExactnessTest, TwoRanksNearlyAlwaysGiveTheTokensOfOne) {
  // Across tensor-parallel sizes sums are rounded differently, so a near tie
  // may fall the other way; a wrong shard would change everything.
  const Streams& one = Alone(1, DType::kF32);
  const Streams& two = Alone(2, DType::kF32);
  int num_equal = 0;
  for (size_t i = 0; i < one.size(); ++i) num_equal += one[i] == two[i];
  EXPECT_GE(num_equal, one.size() - 1);
}

}  // namespace
}  // namespace quire
