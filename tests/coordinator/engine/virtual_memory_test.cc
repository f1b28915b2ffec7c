// SPDX-License-Identifier: Apache-2.0
//
// Virtual memory through the whole engine: the workers check that no step
// touches addresses without memory, that rows are nobody else's, and that there
// are never more page groups than there are.
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/coordinator/engine/served_load.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

EngineOptions Options(int32_t group_tokens) {
  EngineOptions options;
  options.kv_manager = "virtual";
  options.max_model_len = 512;
  options.block_size = group_tokens;  // as the simulated workers say
  options.max_num_seqs = 16;
  options.max_num_batched_tokens = 96;
  return options;
}

TEST(VirtualMemoryTest, EveryStreamIsThatOfTheRequestAlone) {
  for (int32_t group_tokens : {1, 3, 25, 600}) {
    for (int32_t forced_period : {0, 3}) {
      EngineOptions options = Options(group_tokens);
      options.forced_preemption_period = forced_period;
      EngineHarness engine(options, /*num_blocks=*/1 + 1000 / group_tokens);
      ServedLoad load(&engine);
      for (int i = 0; i < 40; ++i) {
        load.Submit(MakeRequest(absl::StrCat("r", i), 1 + i * 37 % 300,
                                1 + i * 13 % 60, i));
      }
      engine.RunUntilIdle();
      load.ExpectServed();
      if (forced_period > 0) {
        EXPECT_GT(engine.core().Stats().num_preemptions, 0);
      }
    }
  }
}

TEST(VirtualMemoryTest, MemoryIsMappedAStepBeforeADecodeNeedsIt) {
  EngineHarness engine(Options(/*group_tokens=*/4), /*num_blocks=*/64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("r", 3, 40, 1));
  engine.RunUntilIdle();
  // The prompt's own group comes with its admission; later ones come with the
  // step before their first token: those that compute tokens 3, 7, 11 ...
  int32_t num_computed = 0;
  for (const StepPlan& plan : engine.plans()) {
    for (const Slice& chunk : plan.chunks) num_computed += chunk.num_tokens;
    num_computed += static_cast<int32_t>(plan.decodes.size());
    for (const RowMapping& mapping : plan.mappings) {
      const int32_t num_groups = mapping.num_page_groups;
      EXPECT_EQ((num_computed + 1 + 3) / 4, num_groups);
      EXPECT_TRUE(num_computed == 3 || num_computed % 4 == 0) << num_computed;
    }
  }
  EXPECT_EQ(num_computed, 42);
}

TEST(VirtualMemoryTest, WhoeverFitsAloneFinishesUnderRandomLoads) {
  int64_t num_preemptions = 0;
  for (int seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    EngineOptions options = Options(/*group_tokens=*/1 + random() % 20);
    options.max_num_seqs = 1 + random() % 12;
    options.max_num_batched_tokens = 1 + random() % 80;
    options.run_ahead_depth = 1 + random() % 3;
    const int32_t num_tokens = 100 + random() % 400;
    EngineHarness engine(options, 1 + num_tokens / options.block_size);
    ServedLoad load(&engine);
    load.SubmitAtRandom(60, random);
    num_preemptions += engine.core().Stats().num_preemptions;
    load.ExpectServed();
    if (HasFailure()) {
      FAIL() << "seed " << seed;
    }
  }
  EXPECT_GT(num_preemptions, 50);
}

TEST(VirtualMemoryTest, AnotherGroupOfWorkersStartsWithoutMemory) {
  EngineOptions options = Options(/*group_tokens=*/8);
  options.on_group_lost = OnGroupLostAction::kRequeue;
  EngineHarness engine(options, /*num_blocks=*/60);
  ServedLoad load(&engine);
  for (int i = 0; i < 12; ++i) {
    load.Submit(MakeRequest(absl::StrCat("r", i), 40, 20, i));
  }
  engine.RunUntilIdle(/*max_steps=*/8);
  engine.LoseGroup("a rank died");
  engine.BeginGroup();
  engine.RunUntilIdle();
  load.ExpectServed();
}

TEST(VirtualMemoryTest, APolicyThatPreemptsNobodyIsRefused) {
  EngineOptions options = Options(/*group_tokens=*/8);
  options.scheduling_policy = "orca";
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace quire
