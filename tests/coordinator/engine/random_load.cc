// SPDX-License-Identifier: Apache-2.0
#include "tests/coordinator/engine/random_load.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

constexpr int32_t kMaxSequences = 4;  // of a request
constexpr int32_t kNumPrefixes = 5;
// Far more than any load takes: only a livelock reaches it.
constexpr int64_t kMaxSteps = 200000;

EngineOptions DrawEngine(const RandomLoadOptions& load,
                         std::mt19937_64& random) {
  EngineOptions options;
  options.block_size = 1 << random() % 6;
  if (load.has_window) options.sliding_window = 2 + random() % 48;
  options.max_num_seqs = 4 + random() % 24;
  options.max_num_batched_tokens = 1 + random() % 100;
  options.max_model_len = load.max_model_len;
  options.run_ahead_depth = 1 + random() % 4;
  options.watermark = random() % 3 * 0.05;
  options.preemption_mode = static_cast<PreemptionMode>(random() % 3);
  options.enable_prefix_caching = random() % 3 > 0;
  if (random() % 3 == 0) options.forced_preemption_period = 2 + random() % 9;
  return options;
}

// What the longest sequence holds at most.
int32_t MaxBlocksOf(const EngineOptions& options) {
  const auto blocks = [&](int32_t num_tokens) {
    return (num_tokens + options.block_size - 1) / options.block_size;
  };
  const int32_t all = blocks(options.max_model_len);
  if (options.sliding_window == 0) return all;
  return std::min(all, blocks(options.sliding_window - 1) + 1);
}

SimulatedGroupOptions DrawGroup(const EngineOptions& options,
                                std::mt19937_64& random) {
  const int32_t least = kMaxSequences * MaxBlocksOf(options);
  SimulatedGroupOptions group;
  group.num_blocks = static_cast<int32_t>(least + random() % least);
  group.num_host_blocks = random() % 3 == 0 ? 0 : random() % (2 * least);
  group.swap_blocks_per_second = 1 + random() % 100;
  group.prefill_tokens_per_second = 1 + random() % 100;
  return group;
}

struct Sent {
  EngineRequest request;
  RequestKey key;
  bool is_cancelled = false;
};

EngineRequest DrawRequest(const RandomLoadOptions& load, uint64_t seed,
                          size_t number, std::mt19937_64& random) {
  const int32_t num_prompt_tokens = 1 + random() % (load.max_model_len - 1);
  const int32_t max_tokens =
      1 + random() % (load.max_model_len - num_prompt_tokens);
  const int32_t n = 1 + random() % kMaxSequences;
  EngineRequest request =
      MakeGroup(absl::StrCat("r", number), num_prompt_tokens, max_tokens, n,
                1 + random() % kNumPrefixes);
  request.sampling.slot.seed = seed * 1000 + number;
  request.use_prefix_cache = random() % 4 > 0;
  request.tenant = random() % 2 > 0 ? "one" : "other";
  if (load.has_stops && random() % 2 > 0) AddStops(20, &request);
  return request;
}

std::vector<Sent> Send(const RandomLoadOptions& load, uint64_t seed,
                       EngineHarness& engine, std::mt19937_64& random) {
  std::vector<Sent> sent;
  const size_t num_requests = 10 + random() % load.num_more_requests;
  while (sent.size() < num_requests) {
    EngineRequest request = DrawRequest(load, seed, sent.size(), random);
    const RequestKey key = engine.MustSubmit(request);
    sent.push_back({std::move(request), key});
    if (random() % 2 == 0) engine.RunUntilIdle(random() % 20);
    if (random() % 8 == 0) {
      Sent& victim = sent[random() % sent.size()];
      victim.is_cancelled = true;
      engine.Finish(victim.key, FinishReason::kCancelled);
    }
    EXPECT_TRUE(engine.core().CheckInvariants().ok())
        << engine.core().CheckInvariants();
  }
  return sent;
}

// What a cancelled request has heard is the beginning of its tokens.
void ExpectBeginnings(EngineHarness& engine, const Sent& sent) {
  for (int index = 0; index < sent.request.sampling.n; ++index) {
    const std::vector<TokenId> all = ExpectedStream(sent.request, index);
    const std::vector<TokenId>& heard = engine.Heard(sent.key, index).tokens;
    ASSERT_LE(heard.size(), all.size());
    EXPECT_TRUE(std::equal(heard.begin(), heard.end(), all.begin()));
  }
}

void ServeRandomLoad(const RandomLoadOptions& load, uint64_t seed,
                     RandomLoadCounts* counts) {
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const EngineOptions options = DrawEngine(load, random);
  EngineHarness engine(options, DrawGroup(options, random));
  const std::vector<Sent> sent = Send(load, seed, engine, random);
  engine.RunUntilIdle(kMaxSteps);
  for (const Sent& each : sent) {
    if (each.is_cancelled) {
      ExpectBeginnings(engine, each);
    } else {
      ExpectAll(engine, each.key, each.request);
    }
  }
  counts->num_preemptions += engine.core().Stats().num_preemptions;
  counts->num_swaps += engine.workers().num_swaps();
  engine.ExpectClean();
  counts->num_cache_hit_tokens +=
      engine.core().TakeMetrics().counters.num_cache_hit_tokens;
}

}  // namespace

RandomLoadCounts ServeRandomLoads(const RandomLoadOptions& options,
                                  uint64_t num_seeds) {
  RandomLoadCounts counts;
  for (uint64_t seed = 1; seed <= num_seeds; ++seed) {
    ServeRandomLoad(options, seed, &counts);
    if (testing::Test::HasFailure()) break;
  }
  return counts;
}

}  // namespace quire
