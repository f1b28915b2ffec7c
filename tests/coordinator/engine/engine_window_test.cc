// SPDX-License-Identifier: Apache-2.0
//
// Blocks that fall out of a sliding attention window are given back at once,
// and nobody's tokens change. The simulated workers check that every token in
// a window is what was written there, and that a block is one sequence's as
// long as its window is on it.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

EngineOptions Options(int32_t window) {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 16;
  options.max_model_len = 4096;
  options.block_size = 4;
  options.sliding_window = window;
  options.enable_prefix_caching = false;
  return options;
}

int32_t NumHeld(EngineHarness& engine) {
  const EngineStats stats = engine.core().Stats();
  return stats.num_blocks - stats.num_free_blocks - stats.num_cached_blocks;
}

TEST(EngineWindowTest, ALongDecodeHoldsNoMoreThanItsWindow) {
  for (int32_t window : {2, 3, 4, 5, 17, 20, 21}) {
    EngineHarness engine(Options(window), /*num_blocks=*/512);
    const EngineRequest request = MakeRequest("a", 3, 1000);
    const RequestKey key = engine.MustSubmit(request);
    int32_t most = 0;
    do {
      engine.Plan();
      most = std::max(most, NumHeld(engine));
    } while (engine.Deliver());
    // Wherever it begins in its first block, and no block more.
    EXPECT_EQ(most, (window - 1 + 3) / 4 + 1) << "window " << window;
    ExpectAll(engine, key, request);
    engine.ExpectClean();
  }
}

TEST(EngineWindowTest, APromptHoldsItsWindowAndAChunk) {
  EngineHarness engine(Options(/*window=*/24), /*num_blocks=*/512);
  const EngineRequest request = MakeRequest("a", 1000, 10);
  const RequestKey key = engine.MustSubmit(request);
  int32_t most = 0;
  do {
    engine.Plan();
    most = std::max(most, NumHeld(engine));
  } while (engine.Deliver());
  EXPECT_LE(most, (24 - 1 + 16 - 1 + 3) / 4 + 1);
  ExpectAll(engine, key, request);
  engine.ExpectClean();
}

TEST(EngineWindowTest, APromptFarLargerThanThePoolRunsIfItsWindowFits) {
  for (int32_t window : {2, 3, 4, 5, 6, 31, 32, 33}) {
    const int32_t least = (window - 1 + 3) / 4 + 1;
    for (int32_t num_blocks : {least, least + 1, least + 3}) {
      EngineHarness engine(Options(window), num_blocks);
      const EngineRequest request = MakeRequest("a", 500, 100);
      const RequestKey key = engine.MustSubmit(request);
      engine.RunUntilIdle(/*max_steps=*/5000);
      ExpectAll(engine, key, request);
      engine.ExpectClean();
    }
    EngineHarness engine(Options(window), least - 1);
    const auto refused = engine.Submit(MakeRequest("a", 500, 100));
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(refused.status().message().find(
                  absl::StrCat("behind a window of ", window)),
              std::string::npos)
        << refused.status();
  }
}

TEST(EngineWindowTest, ReservedAndVirtualMemoryStayWhole) {
  for (const char* manager : {"orca_max", "virtual"}) {
    EngineOptions options = Options(/*window=*/8);
    options.kv_manager = manager;
    options.max_model_len = 256;
    if (options.kv_manager == "orca_max") options.scheduling_policy = "orca";
    EngineHarness engine(options, /*num_blocks=*/64);
    const EngineRequest request = MakeRequest("a", 100, 100);
    const RequestKey key = engine.MustSubmit(request);
    int32_t most = 0;
    do {
      engine.Plan();
      most = std::max(most, NumHeld(engine));
    } while (engine.Deliver());
    EXPECT_GE(most, (100 + 99 + 3) / 4) << manager;
    ExpectAll(engine, key, request);
    engine.ExpectClean();
  }
}

TEST(EngineWindowTest, APrefixIsFoundWithoutWhatItsWindowHasLeftBehind) {
  EngineOptions options = Options(/*window=*/16);
  options.enable_prefix_caching = true;
  // Too small for the prompt: its first blocks are somebody else's by its end.
  EngineHarness engine(options, /*num_blocks=*/20);
  EngineRequest first = MakeRequest("a", 200, 2);
  EngineRequest second = MakeRequest("b", 200, 2);
  const RequestKey a = engine.MustSubmit(first);
  engine.RunUntilIdle();
  const RequestKey b = engine.MustSubmit(second);
  engine.RunUntilIdle();
  ExpectAll(engine, a, first);
  ExpectAll(engine, b, second);
  EXPECT_EQ(engine.Heard(b).num_cached_tokens, 196);
  engine.ExpectClean();
}

TEST(EngineWindowTest, APreemptedSequenceGoesOnWhereItsWindowIs) {
  EngineOptions options = Options(/*window=*/16);
  options.forced_preemption_period = 7;
  options.preemption_mode = PreemptionMode::kSwap;
  EngineHarness engine(
      options, SimulatedGroupOptions{.num_blocks = 12, .num_host_blocks = 32});
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("r", i), 90, 60, i + 1));
    keys.push_back(engine.MustSubmit(requests.back()));
  }
  engine.RunUntilIdle(/*max_steps=*/20000);
  for (int i = 0; i < 4; ++i) ExpectAll(engine, keys[i], requests[i]);
  EXPECT_GT(engine.core().Stats().num_preemptions, 10);
  engine.ExpectClean();
}

// The first sequence decodes before its siblings have their first turn; when
// the group comes back, it has left behind what they would fork from.
TEST(EngineWindowTest, SiblingsDoNotForkFromOneThatHasGoneOn) {
  for (int32_t window = 2; window < 14; ++window) {
    for (int32_t num_prompt_tokens = 8; num_prompt_tokens < 17;
         ++num_prompt_tokens) {
      EngineOptions options = Options(window);
      options.max_num_batched_tokens = 2;
      options.forced_preemption_period = 2 + num_prompt_tokens % 3;
      EngineHarness engine(options, /*num_blocks=*/100);
      const EngineRequest request = MakeGroup("a", num_prompt_tokens, 9, 4);
      const RequestKey key = engine.MustSubmit(request);
      engine.RunUntilIdle(/*max_steps=*/5000);
      ExpectAll(engine, key, request);
      engine.ExpectClean();
    }
  }
}

}  // namespace
}  // namespace quire
