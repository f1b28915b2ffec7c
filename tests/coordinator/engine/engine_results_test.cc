// SPDX-License-Identifier: Apache-2.0
//
// What the engine makes of results: which it believes, what clients hear, and
// what it learns and counts.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

// Delivers the oldest result as if its step had taken so long. False: none.
bool DeliverAfter(EngineHarness* engine, int32_t step_us) {
  std::optional<StepResult> result = engine->workers().TakeResult();
  if (!result.has_value()) return false;
  result->step_us = step_us;
  engine->core().OnStepResult(*std::move(result), engine->now());
  return true;
}

TEST(EngineResultsTest, AStopWastesOneStepLessThanTheRunAheadDepth) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 3;
  EngineHarness engine(options, 64);
  EngineRequest request = MakeRequest("a", 5, 50);
  request.sampling.stop_token_ids = {ExpectedStream(request)[10]};
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).finish_reason, FinishReason::kStop);
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_wasted_tokens, 2);
  engine.ExpectClean();
}

TEST(EngineResultsTest, ResultsOfAnotherEpochOrStepAreDropped) {
  EngineHarness engine(SmallEngineOptions(), 64);
  const EngineRequest request = MakeRequest("a", 8, 10);
  const RequestKey key = engine.MustSubmit(request);
  engine.Plan();
  for (const StepIdentity& identity :
       {StepIdentity{Epoch(1), Epoch(7), StepId(1)},
        StepIdentity{Epoch(2), Epoch(1), StepId(1)},
        StepIdentity{Epoch(1), Epoch(1), StepId(2)},
        StepIdentity{Epoch(1), Epoch(1), StepId(0)}}) {
    StepResult stale;
    stale.identity = identity;
    stale.tokens = {1};
    engine.core().OnStepResult(stale, engine.now());
  }
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_stale_results, 4);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  engine.ExpectClean();
}

TEST(EngineResultsTest, AResultWithTooFewTokensEndsTheEpoch) {
  EngineHarness engine(SmallEngineOptions(), 64);
  const RequestKey key = engine.MustSubmit(MakeRequest("a", 8, 10));
  engine.Plan();
  StepResult result = *engine.workers().TakeResult();
  result.tokens.clear();
  engine.core().OnStepResult(result, engine.now());
  engine.Plan();
  EXPECT_EQ(engine.Heard(key).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(engine.core().Stats().ready);
}

TEST(EngineResultsTest, TimesOfARequestAreKept) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 1;
  EngineHarness engine(options, 64);
  const absl::Time start = engine.now();
  engine.MustSubmit(MakeRequest("a", 8, 2));
  engine.Advance(absl::Seconds(1));
  engine.Plan();
  engine.Advance(absl::Seconds(1));
  engine.Deliver();
  engine.Advance(absl::Seconds(1));
  engine.RunUntilIdle();
  const EngineMetrics metrics = engine.core().TakeMetrics();
  ASSERT_EQ(metrics.requests.size(), 1);
  const RequestSample& sample = metrics.requests[0];
  EXPECT_EQ(sample.arrival, start);
  EXPECT_EQ(sample.first_scheduled, start + absl::Seconds(1));
  EXPECT_EQ(sample.first_token, start + absl::Seconds(2));
  EXPECT_EQ(sample.end, start + absl::Seconds(3));
  EXPECT_EQ(sample.num_prompt_tokens, 8);
  EXPECT_EQ(sample.num_output_tokens, 2);
  EXPECT_EQ(sample.finish_reason, FinishReason::kLength);
  ASSERT_EQ(metrics.steps.size(), 3);
  EXPECT_EQ(metrics.steps[0].num_tokens, 8);
  EXPECT_EQ(metrics.steps[0].turnaround, absl::Seconds(1));
  EXPECT_TRUE(engine.core().TakeMetrics().requests.empty());
}

TEST(EngineResultsTest, OutputsAreFoundBlockByBlockAsTheyBecomeKnown) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 1;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  const EngineRequest first = MakeRequest("first", 8, 60);
  const RequestKey key = engine.MustSubmit(first);
  for (int turn = 0; turn < 9; ++turn) {
    engine.RunUntilIdle(/*max_steps=*/1);
    const std::vector<TokenId>& outputs = engine.Heard(key).tokens;
    EngineRequest next = first;
    next.request_id = absl::StrCat("next", turn);
    next.prompt.insert(next.prompt.end(), outputs.begin(), outputs.end());
    next.prompt.push_back(1);
    next.sampling.max_tokens = 1;
    const RequestKey next_key = engine.MustSubmit(next);
    // The last token that is known is not computed.
    const auto num_computed = static_cast<int32_t>(8 + outputs.size() - 1);
    engine.RunUntilIdle(/*max_steps=*/1);
    EXPECT_EQ(engine.Heard(next_key).num_cached_tokens, num_computed / 4 * 4)
        << num_computed << " tokens";
  }
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(first));
  engine.ExpectClean();
}

TEST(EngineResultsTest, TokensOfWrongTablesAreNeverHeard) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 3;
  EngineHarness engine(options, 64);
  const EngineRequest request = MakeRequest("a", 8, 10);
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle(/*max_steps=*/2);
  const size_t num_heard = engine.Heard(key).tokens.size();
  engine.workers().CorruptNextDigest();
  engine.Plan();  // the third after two that are right
  const int32_t num_in_flight = engine.core().num_in_flight();
  ASSERT_EQ(num_in_flight, 3);
  while (engine.Deliver()) {
  }
  EXPECT_EQ(engine.Heard(key).tokens.size(), num_heard + 2);
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_wasted_tokens, 1);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  engine.ExpectClean();
}

TEST(EngineResultsTest, CachedTokensAreToldOncePerSequence) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.MustSubmit(MakeRequest("first", 21, 1));
  engine.RunUntilIdle();
  int32_t num_tellings = 0;
  engine.Listen([&](const SequenceOutput& output) {
    if (output.num_cached_tokens == 0) return;
    ++num_tellings;
    EXPECT_EQ(output.num_cached_tokens, 20);
    EXPECT_EQ(output.token_offset, 0);
  });
  EngineRequest group = MakeRequest("group", 21, 5);
  group.sampling.n = group.sampling.best_of = 2;
  engine.MustSubmit(group);
  engine.RunUntilIdle();
  EXPECT_EQ(num_tellings, 2);
  engine.ExpectClean();
}

// Copying blocks is worth it where prompts are slow; how slow they are is what
// steps full of them have taken.
TEST(EngineResultsTest, SlowPrefillsMakeSwappingTheBetterPreemption) {
  struct Case {
    int32_t num_prompt_tokens;
    int32_t first_us;  // of the first step
    int32_t step_us;
    bool swaps;
  };
  // A victim's 20 tokens or more are computed at 32 tokens a step; its blocks,
  // 12 at most, go and come within 0.24 s. A step that is less than half full
  // of prompts says nothing, nor does one that was not timed.
  for (const Case& c :
       {Case{20, 1000000, 1000000, true}, Case{24, 0, 1000000, true},
        Case{20, 1000, 1000, false}, Case{20, 0, 0, false},
        Case{7, 1000000, 1000000, false}}) {
    SCOPED_TRACE(testing::Message()
                 << c.num_prompt_tokens << " tokens, " << c.step_us << " us");
    EngineOptions options = SmallEngineOptions();
    options.max_num_batched_tokens = 32;
    options.watermark = 0;
    options.preemption_mode = PreemptionMode::kAuto;
    options.enable_prefix_caching = false;
    EngineHarness engine(options, {.num_blocks = 14,
                                   .num_host_blocks = 64,
                                   .swap_blocks_per_second = 100});
    const EngineRequest first = MakeRequest("first", c.num_prompt_tokens, 26);
    const EngineRequest second =
        MakeRequest("second", c.num_prompt_tokens, 26, /*seed=*/2);
    const RequestKey first_key = engine.MustSubmit(first);
    const RequestKey second_key = engine.MustSubmit(second);
    engine.Plan();
    DeliverAfter(&engine, c.first_us);
    do {
      engine.Plan();
    } while (DeliverAfter(&engine, c.step_us));
    engine.RunUntilIdle();  // hears what was said
    EXPECT_GT(engine.core().Stats().num_preemptions, 0);
    EXPECT_EQ(engine.core().TakeMetrics().counters.num_swapped_out_blocks > 0,
              c.swaps);
    EXPECT_EQ(engine.Heard(first_key).tokens, ExpectedStream(first));
    EXPECT_EQ(engine.Heard(second_key).tokens, ExpectedStream(second));
    engine.ExpectClean();
  }
}

TEST(EngineResultsTest, SamplesBeyondTheMostAreCountedAndNotKept) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 1;
  EngineHarness engine(options, 64);
  // A step for the token, one for the release.
  int64_t num_steps = 0;
  for (int i = 0; num_steps <= kMaxSamples; ++i) {
    engine.MustSubmit(MakeRequest(absl::StrCat("r", i), 1, 1, i + 1));
    num_steps += engine.RunUntilIdle();
  }
  const EngineMetrics metrics = engine.core().TakeMetrics();
  EXPECT_EQ(metrics.steps.size(), kMaxSamples);
  EXPECT_EQ(metrics.num_dropped_samples, num_steps - kMaxSamples);
  EXPECT_EQ(metrics.counters.num_steps, num_steps);
  // There is room again.
  engine.MustSubmit(MakeRequest("after", 1, 1));
  engine.RunUntilIdle();
  EXPECT_EQ(engine.core().TakeMetrics().steps.size(), 2);
}

// A pool of which one range of 8 blocks and two of 4 are free, so that two
// sequences of 8 blocks each pass a policy, and only one finds its range. The
// first of them has a slot and has ended, the other has none yet.
class LastSlotTest : public testing::Test {
 protected:
  static EngineOptions Options() {
    EngineOptions options = SmallEngineOptions();
    options.kv_manager = "orca_oracle";
    options.scheduling_policy = "orca";
    options.on_group_lost = OnGroupLostAction::kRequeue;
    return options;
  }

  void SetUp() override {
    std::vector<RequestKey> keys;
    for (int i = 0; i < 6; ++i) {
      keys.push_back(engine_.MustSubmit(
          MakeRequest(absl::StrCat("r", i), 8, /*max_tokens=*/8, i)));
    }
    engine_.Plan();
    for (int i : {0, 1, 2, 4}) engine_.Finish(keys[i], FinishReason::kStop);
    request_ = MakeRequest("two", 20, /*max_tokens=*/10, 7);
    request_.sampling.n = request_.sampling.best_of = 2;
    key_ = engine_.MustSubmit(request_);
    engine_.Deliver();
    engine_.Plan();
    ASSERT_EQ(engine_.core().Stats().num_waiting, 0);
    engine_.core().FinishSequence(key_, 0, engine_.now());
  }

  void ExpectTheOther() {
    engine_.RunUntilIdle();
    EXPECT_EQ(engine_.Heard(key_, 1).tokens, ExpectedStream(request_, 1));
    engine_.ExpectClean();
  }

  EngineHarness engine_{Options(), /*num_blocks=*/24};
  EngineRequest request_;
  RequestKey key_;
};

TEST_F(LastSlotTest, TheOtherWaitsForItsRange) {
  EXPECT_EQ(engine_.core().Stats().num_waiting, 1);
  ExpectTheOther();
}

TEST_F(LastSlotTest, TheOtherOutlivesALostGroup) {
  engine_.LoseGroup("gone");
  EXPECT_EQ(engine_.core().Stats().num_waiting, 3);
  engine_.BeginGroup();
  ExpectTheOther();
}

TEST_F(LastSlotTest, TheOtherOutlivesARestatement) {
  engine_.workers().CorruptNextDigest();
  ExpectTheOther();
  EXPECT_EQ(engine_.workers().num_resyncs(), 1);
}

TEST_F(LastSlotTest, TheOtherGoesToAnotherEngine) {
  engine_.LoseGroup("gone");
  EXPECT_EQ(engine_.core().TakeAll(engine_.now()).size(), 3u);
}

TEST(EngineResultsTest, ASiblingComputesThePromptThatTheFirstOneLeft) {
  EngineHarness engine(SmallEngineOptions(), 200);
  EngineRequest request = MakeRequest("a", /*num_prompt_tokens=*/150, 10);
  request.sampling.n = request.sampling.best_of = 3;
  const RequestKey key = engine.MustSubmit(request);
  engine.Plan();
  engine.Deliver();  // 64 tokens
  engine.core().FinishSequence(key, 0, engine.now());
  engine.RunUntilIdle();
  for (int32_t index : {1, 2}) {
    EXPECT_EQ(engine.Heard(key, index).tokens, ExpectedStream(request, index));
  }
  engine.ExpectClean();
}

}  // namespace
}  // namespace quire
