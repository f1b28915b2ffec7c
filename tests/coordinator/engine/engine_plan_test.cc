// SPDX-License-Identifier: Apache-2.0
//
// Which step plans the engine makes, when it makes none, and what it counts.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

TEST(EnginePlanTest, RunsAheadAsFarAsItWasTold) {
  for (int depth : {1, 2, 3}) {
    EngineOptions options = SmallEngineOptions();
    options.run_ahead_depth = depth;
    EngineHarness engine(options, 64);
    engine.MustSubmit(MakeRequest("a", 5, 20));
    EXPECT_EQ(engine.Plan(), depth);
    EXPECT_EQ(engine.Plan(), 0);
    engine.Deliver();
    EXPECT_EQ(engine.Plan(), 1);
    engine.RunUntilIdle();
    engine.ExpectClean();
  }
}

TEST(EnginePlanTest, PlansNoTokenPastMaxTokens) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 8;
  EngineHarness engine(options, 64);
  engine.MustSubmit(MakeRequest("a", 5, 3));
  EXPECT_EQ(engine.Plan(), 3);  // the prompt and two decodes
  engine.RunUntilIdle();
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_wasted_tokens, 0);
  engine.ExpectClean();
}

TEST(EnginePlanTest, DecodesAreSentWithoutTokensOrTables) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("a", 4, 9));
  engine.RunUntilIdle();
  const StepPlan& first = engine.plans()[0];
  ASSERT_EQ(first.admitted.size(), 1);
  EXPECT_EQ(first.admitted[0].tokens.size(), 4);
  EXPECT_EQ(first.chunks, (std::vector<Slice>{{SlotId(0), 4, true}}));
  // Position 4 needs the second block, positions 5 to 7 nothing.
  EXPECT_EQ(engine.plans()[1].appended.size(), 1);
  const StepPlan& third = engine.plans()[2];
  StepPlan bare;
  bare.identity = third.identity;
  bare.decodes = {SlotId(0)};
  EXPECT_EQ(third, bare);
}

TEST(EnginePlanTest, TheLastOneOutIsReleasedByAPlanOfItsOwn) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("a", 4, 1));
  engine.RunUntilIdle();
  ASSERT_EQ(engine.plans().size(), 2);
  StepPlan bare;
  bare.identity = engine.plans()[1].identity;
  bare.released = {SlotId(0)};
  EXPECT_EQ(engine.plans()[1], bare);
  EXPECT_EQ(engine.Plan(), 0);
}

TEST(EnginePlanTest, ASlotReleasedAndTakenAgainInOnePlan) {
  EngineOptions options = SmallEngineOptions();
  options.max_num_seqs = 1;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("a", 4, 1));
  engine.MustSubmit(MakeRequest("b", 4, 1));
  engine.RunUntilIdle();
  EXPECT_EQ(engine.plans()[1].released, (std::vector<SlotId>{SlotId(0)}));
  EXPECT_EQ(engine.plans()[1].admitted.size(), 1);
  engine.ExpectClean();
}

TEST(EnginePlanTest, NoTokenIsPlannedAfterADeadline) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  EngineRequest running = MakeRequest("running", 8, 100);
  running.deadline = engine.now() + absl::Seconds(2);
  EngineRequest patient = MakeRequest("patient", 8, 10, 2);
  patient.deadline = engine.now() + absl::Hours(1);
  const RequestKey running_key = engine.MustSubmit(running);
  const RequestKey patient_key = engine.MustSubmit(patient);
  EXPECT_EQ(engine.core().NextDeadline(), running.deadline);
  engine.Plan();
  engine.Deliver();
  engine.Advance(absl::Seconds(2));
  const size_t num_plans = engine.plans().size();
  engine.RunUntilIdle();
  const HeardStream& heard = engine.Heard(running_key);
  EXPECT_EQ(heard.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(heard.num_last_words, 1);
  EXPECT_LT(heard.tokens.size(), 3);
  for (size_t i = num_plans; i < engine.plans().size(); ++i) {
    for (SlotId slot : engine.plans()[i].decodes) EXPECT_EQ(slot, SlotId(1));
  }
  EXPECT_EQ(engine.Heard(patient_key).tokens, ExpectedStream(patient));
  // A deadline is forgotten with its request.
  EXPECT_EQ(engine.core().NextDeadline(), absl::InfiniteFuture());
  engine.ExpectClean();
}

TEST(EnginePlanTest, TablesThatDisagreeAreRestatedAndTokensStayRight) {
  for (int depth : {1, 2, 3}) {
    EngineOptions options = SmallEngineOptions();
    options.run_ahead_depth = depth;
    EngineHarness engine(options, 40);
    std::vector<EngineRequest> requests;
    std::vector<RequestKey> keys;
    for (int i = 0; i < 5; ++i) {
      requests.push_back(MakeRequest(absl::StrCat("r", i), 9 + i, 30, i + 1));
      keys.push_back(engine.MustSubmit(requests.back()));
    }
    for (int times = 0; times < 3; ++times) {
      engine.RunUntilIdle(/*max_steps=*/7);
      engine.workers().CorruptNextDigest();
    }
    engine.RunUntilIdle();
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(engine.Heard(keys[i]).tokens, ExpectedStream(requests[i]));
    }
    EXPECT_EQ(engine.workers().num_resyncs(), 3);
    EXPECT_EQ(engine.core().TakeMetrics().counters.num_resyncs, 3);
    engine.ExpectClean();
  }
}

TEST(EnginePlanTest, StepsOfAGroupEpochCountFromOne) {
  EngineHarness engine(SmallEngineOptions(), /*num_blocks=*/64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("a", 5, 3));
  engine.RunUntilIdle();
  ASSERT_GE(engine.plans().size(), 3);
  for (size_t i = 0; i < engine.plans().size(); ++i) {
    EXPECT_EQ(engine.plans()[i].identity,
              (StepIdentity{Epoch(1), Epoch(1), StepId(i + 1)}));
  }
}

// A wrong table may have written into any block.
TEST(EnginePlanTest, ARestatementForgetsPrefixesToo) {
  for (const bool restates : {false, true}) {
    EngineHarness engine(SmallEngineOptions(), 64);
    engine.KeepPlans();
    engine.MustSubmit(MakeRequest("leaves its prompt", 21, 2));
    engine.RunUntilIdle();
    if (restates) {
      engine.workers().CorruptNextDigest();
      engine.MustSubmit(MakeRequest("sees it", 4, 4, /*seed=*/2));
      engine.RunUntilIdle();
    }
    const size_t num_plans = engine.plans().size();
    engine.MustSubmit(MakeRequest("searches", 21, 2));
    engine.RunUntilIdle();
    ASSERT_EQ(engine.plans()[num_plans].admitted.size(), 1);
    EXPECT_EQ(engine.plans()[num_plans].admitted[0].num_computed_tokens,
              restates ? 0 : 20);
    engine.ExpectClean();
  }
}

TEST(EnginePlanTest, ARestatementWaitsForWhatIsInFlight) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 3;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  const EngineRequest request = MakeRequest("a", 9, 20);
  const RequestKey key = engine.MustSubmit(request);
  engine.workers().CorruptNextDigest();
  EXPECT_EQ(engine.Plan(), 3);
  engine.Deliver();
  EXPECT_EQ(engine.Plan(), 0);
  engine.Deliver();
  EXPECT_EQ(engine.Plan(), 0);
  engine.Deliver();
  EXPECT_EQ(engine.Plan(), 3);
  const StepPlan& restated = engine.plans()[3];
  EXPECT_TRUE(restated.resync);
  EXPECT_TRUE(restated.released.empty());
  ASSERT_EQ(restated.admitted.size(), 1);
  EXPECT_EQ(restated.admitted[0].num_computed_tokens, 0);
  EXPECT_EQ(restated.admitted[0].tokens.size(), 9);
  EXPECT_FALSE(engine.plans()[4].resync);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  engine.ExpectClean();
}

// It would cost the workers a step for nothing.
TEST(EnginePlanTest, NoPlanIsMadeForAReleaseWhileOthersAreInFlight) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("stays", 4, 1));
  const RequestKey leaves = engine.MustSubmit(MakeRequest("leaves", 4, 9));
  EXPECT_EQ(engine.Plan(), 2);
  engine.Finish(leaves, FinishReason::kCancelled);
  engine.Deliver();  // now both are to be released
  EXPECT_EQ(engine.core().num_in_flight(), 1);
  EXPECT_EQ(engine.Plan(), 0);
  engine.Deliver();
  EXPECT_EQ(engine.Plan(), 1);
  EXPECT_EQ(engine.plans().back().released.size(), 2);
  // Plans that were not made have no number.
  EXPECT_EQ(engine.plans().back().identity.step_id, StepId(3));
  engine.RunUntilIdle();
  engine.ExpectClean();
}

TEST(EnginePlanTest, DecodesComeBeforeChunksAndTokensGoToWhoSampledThem) {
  EngineOptions options = SmallEngineOptions();
  options.max_num_batched_tokens = 16;
  EngineHarness engine(options, 200);
  engine.KeepPlans();
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("r", i), 7 + 5 * i, 9, i + 1));
    keys.push_back(engine.MustSubmit(requests.back()));
  }
  engine.RunUntilIdle();
  int num_mixed = 0;
  for (const StepPlan& plan : engine.plans()) {
    num_mixed += !plan.decodes.empty() && !plan.chunks.empty();
    int32_t num_tokens = static_cast<int32_t>(plan.decodes.size());
    for (const Slice& slice : plan.chunks) num_tokens += slice.num_tokens;
    EXPECT_LE(num_tokens, 16);
  }
  EXPECT_GT(num_mixed, 2);
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(engine.Heard(keys[i]).tokens, ExpectedStream(requests[i]));
  }
  engine.ExpectClean();
}

TEST(EnginePlanTest, CountersAreTheSumsOfThePlans) {
  EngineOptions options = SmallEngineOptions();
  options.forced_preemption_period = 5;
  options.preemption_mode = PreemptionMode::kSwap;
  EngineHarness engine(options, {.num_blocks = 24, .num_host_blocks = 64});
  engine.KeepPlans();
  for (int i = 0; i < 6; ++i) {
    EngineRequest request = MakeRequest(absl::StrCat("r", i), 9 + i, 12, i + 1);
    request.sampling.n = request.sampling.best_of = 1 + i % 3;
    engine.MustSubmit(request);
  }
  engine.RunUntilIdle();
  EngineCounters sums;
  for (const StepPlan& plan : engine.plans()) {
    ++sums.num_steps;
    sums.num_decode_tokens += static_cast<int64_t>(plan.decodes.size());
    for (const Slice& slice : plan.chunks) {
      sums.num_prefill_tokens += slice.num_tokens;
    }
    sums.num_copied_blocks += static_cast<int64_t>(plan.copies.size());
    sums.num_swapped_out_blocks += static_cast<int64_t>(plan.swap_outs.size());
    sums.num_swapped_in_blocks += static_cast<int64_t>(plan.swap_ins.size());
  }
  const EngineCounters counters = engine.core().TakeMetrics().counters;
  EXPECT_EQ(counters.num_steps, sums.num_steps);
  EXPECT_EQ(counters.num_decode_tokens, sums.num_decode_tokens);
  EXPECT_EQ(counters.num_prefill_tokens, sums.num_prefill_tokens);
  EXPECT_EQ(counters.num_copied_blocks, sums.num_copied_blocks);
  EXPECT_EQ(counters.num_swapped_out_blocks, sums.num_swapped_out_blocks);
  EXPECT_EQ(counters.num_swapped_in_blocks, sums.num_swapped_in_blocks);
  EXPECT_GT(sums.num_copied_blocks, 0);
  EXPECT_GT(sums.num_swapped_out_blocks, 0);
  EXPECT_GT(sums.num_swapped_in_blocks, 0);
  engine.ExpectClean();
}

// A plan that cannot be made is asked for again and again.
TEST(EnginePlanTest, AForcedPreemptionHappensOncePerStep) {
  EngineOptions options = SmallEngineOptions();
  options.forced_preemption_period = 3;
  options.run_ahead_depth = 1;
  EngineHarness engine(options, 64);
  const EngineRequest request = MakeRequest("a", 9, 30);
  const RequestKey key = engine.MustSubmit(request);
  do {
    engine.Plan();
    engine.Plan();
    const EngineStats stats = engine.core().Stats();
    EXPECT_LE(stats.num_preemptions,
              static_cast<int64_t>(stats.last_step.value() + 1) / 3);
  } while (engine.Deliver());
  EXPECT_GT(engine.core().Stats().num_preemptions, 5);
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  engine.ExpectClean();
}

// What the next step writes is mapped while this one runs.
TEST(EnginePlanTest, RowsAreMappedAStepAhead) {
  EngineOptions options = SmallEngineOptions();
  options.kv_manager = "virtual";
  options.max_num_batched_tokens = 8;
  options.run_ahead_depth = 1;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("a", 24, 3));
  engine.RunUntilIdle();
  // Page groups of 4 tokens: the first 8 tokens and the next 8; then 8 more.
  std::vector<int32_t> mapped;
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_FALSE(engine.plans()[i].mappings.empty()) << "plan " << i;
    mapped.push_back(engine.plans()[i].mappings.back().num_page_groups);
  }
  EXPECT_EQ(mapped, (std::vector<int32_t>{4, 6, 7}));
  engine.ExpectClean();
}

}  // namespace
}  // namespace quire
