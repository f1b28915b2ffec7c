// SPDX-License-Identifier: Apache-2.0
//
// Prefixes that move to host memory when their blocks are needed, and what that
// does to the preempted, who share it. The workers check that whatever a step
// reads is what was computed for it, wherever it has been.
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

EngineOptions Options(PrefixDemotion demotion) {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 128;
  options.block_size = kBlockSize;
  options.watermark = 0;
  options.demote_prefixes = demotion;
  return options;
}

// Runs a request to its end, alone, and hears what it must.
void Serve(EngineHarness* engine, const EngineRequest& request) {
  const RequestKey key = engine->MustSubmit(request);
  engine->RunUntilIdle();
  EXPECT_EQ(engine->Heard(key).tokens, ExpectedStream(request));
}

struct Counts {
  int64_t num_hits = 0;  // tokens
  int64_t num_host_hits = 0;
  int64_t num_prefilled = 0;
};

// A prefix is computed, evicted by another request's, and asked for again.
Counts ServeEvictedPrefix(const EngineOptions& options,
                          SimulatedGroupOptions group) {
  EngineHarness engine(options, group);
  Serve(&engine, MakeRequest("first", 40, 4, /*seed=*/1));
  Serve(&engine, MakeRequest("other", 60, 4, /*seed=*/2));  // the whole pool
  const EngineCounters before = engine.core().TakeMetrics().counters;
  Serve(&engine, MakeRequest("again", 41, 4, /*seed=*/1));
  const EngineCounters after = engine.core().TakeMetrics().counters;
  engine.ExpectClean();
  return {after.num_cache_hit_tokens - before.num_cache_hit_tokens,
          after.num_host_hit_tokens - before.num_host_hit_tokens,
          after.num_prefill_tokens - before.num_prefill_tokens};
}

TEST(HostTierTest, AnEvictedPrefixComesBackByCopyAndIsNotComputedAgain) {
  const SimulatedGroupOptions group = {.num_blocks = 16, .num_host_blocks = 32};
  const Counts kept =
      ServeEvictedPrefix(Options(PrefixDemotion::kAlways), group);
  EXPECT_EQ(kept.num_hits, 40);
  EXPECT_EQ(kept.num_host_hits, 40);
  EXPECT_EQ(kept.num_prefilled, 1);
  const Counts lost =
      ServeEvictedPrefix(Options(PrefixDemotion::kNever), group);
  EXPECT_EQ(lost.num_hits, 0);
  EXPECT_EQ(lost.num_host_hits, 0);
  EXPECT_EQ(lost.num_prefilled, 41);
}

TEST(HostTierTest, HitsCountByTheTierWhereTheyWere) {
  EngineHarness engine(Options(PrefixDemotion::kAlways),
                       {.num_blocks = 16, .num_host_blocks = 32});
  Serve(&engine, MakeRequest("first", 40, 4, /*seed=*/1));
  // Takes six free blocks and the last two of the prefix; what they held moves.
  Serve(&engine, MakeRequest("other", 28, 4, /*seed=*/2));
  Serve(&engine, MakeRequest("again", 41, 4, /*seed=*/1));
  const EngineCounters counters = engine.core().TakeMetrics().counters;
  EXPECT_EQ(counters.num_cache_hit_tokens, 40);
  EXPECT_GT(counters.num_host_hit_tokens, 0);
  EXPECT_LT(counters.num_host_hit_tokens, 40);
  EXPECT_EQ(counters.num_host_hit_tokens % kBlockSize, 0);
  engine.ExpectClean();
}

TEST(HostTierTest, AutoMovesThemIfThatIsMuchFasterThanComputing) {
  SimulatedGroupOptions group = {.num_blocks = 16,
                                 .num_host_blocks = 32,
                                 .swap_blocks_per_second = 100000,
                                 .prefill_tokens_per_second = 10000};
  const EngineOptions options = Options(PrefixDemotion::kAuto);
  // 20 us out and in against 400 us.
  EXPECT_EQ(ServeEvictedPrefix(options, group).num_host_hits, 40);
  group.swap_blocks_per_second = 10000;  // 200 us
  EXPECT_EQ(ServeEvictedPrefix(options, group).num_host_hits, 0);
  group.swap_blocks_per_second = 0;  // unknown
  EXPECT_EQ(ServeEvictedPrefix(options, group).num_host_hits, 0);
}

TEST(HostTierTest, WithoutThePrefixCacheNothingIsDemoted) {
  EngineOptions options = Options(PrefixDemotion::kAlways);
  options.enable_prefix_caching = false;
  EngineHarness engine(options, {.num_blocks = 16, .num_host_blocks = 32});
  EngineRequest siblings = MakeRequest("siblings", 24, 4);
  siblings.sampling.n = siblings.sampling.best_of = 2;
  engine.MustSubmit(siblings);  // these publish among themselves
  engine.RunUntilIdle();
  Serve(&engine, MakeRequest("other", 60, 4, /*seed=*/2));
  EXPECT_EQ(engine.workers().num_swaps(), 0);
  engine.ExpectClean();
}

TEST(HostTierTest, AFullHostPoolKeepsTheLatestPrefixes) {
  EngineHarness engine(Options(PrefixDemotion::kAlways),
                       {.num_blocks = 16, .num_host_blocks = 8});
  Serve(&engine, MakeRequest("first", 30, 2, /*seed=*/1));
  Serve(&engine, MakeRequest("second", 30, 2, /*seed=*/2));
  Serve(&engine, MakeRequest("third", 60, 4, /*seed=*/3));
  EXPECT_EQ(engine.core().Stats().num_host_prefix_blocks, 8);
  const EngineCounters before = engine.core().TakeMetrics().counters;
  Serve(&engine, MakeRequest("second again", 30, 2, /*seed=*/2));
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_host_hit_tokens -
                before.num_host_hit_tokens,
            28);
  engine.ExpectClean();
}

TEST(HostTierTest, PrefixesDoNotKeepThePreemptedFromBeingSwapped) {
  EngineOptions options = Options(PrefixDemotion::kAlways);
  options.preemption_mode = PreemptionMode::kSwap;
  EngineHarness engine(options, {.num_blocks = 16, .num_host_blocks = 8});
  // Host memory fills with prefixes.
  for (uint64_t seed : {1, 2, 3}) {
    Serve(&engine, MakeRequest(absl::StrCat("p", seed), 60, 2, seed));
  }
  EXPECT_EQ(engine.core().Stats().num_free_host_blocks, 0);
  EXPECT_EQ(engine.core().Stats().num_host_prefix_blocks, 8);
  const int64_t num_prefilled =
      engine.core().TakeMetrics().counters.num_prefill_tokens;
  // Two that outgrow the pool together: the later one is preempted with 8
  // blocks at most, which fit the host pool.
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (uint64_t seed : {11, 12}) {
    requests.push_back(MakeRequest(absl::StrCat("r", seed), 20, 24, seed));
    requests.back().use_prefix_cache = false;
    keys.push_back(engine.MustSubmit(requests.back()));
  }
  engine.RunUntilIdle();
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(engine.Heard(keys[i]).tokens, ExpectedStream(requests[i]));
  }
  EXPECT_GT(engine.core().Stats().num_preemptions, 0);
  // Nothing was computed twice: 20 tokens each, and one in which the
  // preempted one comes back.
  EXPECT_LE(engine.core().TakeMetrics().counters.num_prefill_tokens,
            num_prefilled + 2 * 20 + engine.core().Stats().num_preemptions);
  engine.ExpectClean();
}

TEST(HostTierTest, StreamsAreThoseOfEachAloneUnderRandomLoads) {
  int64_t num_host_hits = 0;
  int64_t num_preemptions = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 random(seed);
    EngineOptions options = Options(PrefixDemotion::kAlways);
    options.preemption_mode = static_cast<PreemptionMode>(random() % 3);
    options.run_ahead_depth = 1 + random() % 3;
    options.max_num_batched_tokens = 8 + random() % 100;
    EngineHarness engine(
        options, {.num_blocks = static_cast<int32_t>(33 + random() % 30),
                  .num_host_blocks = static_cast<int32_t>(1 + random() % 80),
                  .swap_blocks_per_second = 100,
                  .prefill_tokens_per_second = 100});
    std::vector<EngineRequest> requests;
    std::vector<RequestKey> keys;
    for (int i = 0; i < 60; ++i) {
      // Few prefixes, more than the pool holds.
      requests.push_back(MakeRequest(absl::StrCat("r", i), 1 + random() % 100,
                                     1 + random() % 28, 1 + random() % 6));
      requests.back().sampling.slot.seed = 100 * seed + i;
      keys.push_back(engine.MustSubmit(requests.back()));
      if (random() % 2 == 0) engine.RunUntilIdle(random() % 30);
    }
    engine.RunUntilIdle(/*max_steps=*/100000);
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_EQ(engine.Heard(keys[i]).tokens, ExpectedStream(requests[i]))
          << "seed " << seed << " request " << i;
    }
    num_preemptions += engine.core().Stats().num_preemptions;
    num_host_hits += engine.core().TakeMetrics().counters.num_host_hit_tokens;
    engine.ExpectClean();
  }
  EXPECT_GT(num_preemptions, 50);
  EXPECT_GT(num_host_hits, 1000);
}

}  // namespace
}  // namespace quire
