// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/engine_core.h"

#include <algorithm>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

EngineOptions Options() {
  EngineOptions options;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 256;
  options.block_size = 4;
  return options;
}

std::vector<TokenId> Expected(const EngineRequest& request) {
  return SimulatedStream(request.prompt, request.sampling);
}

TEST(EngineCoreTest, AnUnknownNameOrAnOptionOutOfRangeIsRefused) {
  EngineOptions options = Options();
  options.kv_manager = "flat";
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options = Options();
  options.scheduling_policy = "lottery";
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options = Options();
  options.run_ahead_depth = 0;
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EngineCoreTest, StepsOfAGroupEpochCountFromOne) {
  EngineHarness engine(Options(), /*num_blocks=*/64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("a", 5, 3));
  engine.RunUntilIdle();
  ASSERT_GE(engine.plans().size(), 3);
  for (size_t i = 0; i < engine.plans().size(); ++i) {
    EXPECT_EQ(engine.plans()[i].identity,
              (StepIdentity{Epoch(1), Epoch(1), StepId(i + 1)}));
  }
}

TEST(EngineCoreTest, RunsAheadAsFarAsItWasTold) {
  for (int depth : {1, 2, 3}) {
    EngineOptions options = Options();
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

TEST(EngineCoreTest, PlansNoTokenPastMaxTokens) {
  EngineOptions options = Options();
  options.run_ahead_depth = 8;
  EngineHarness engine(options, 64);
  engine.MustSubmit(MakeRequest("a", 5, 3));
  EXPECT_EQ(engine.Plan(), 3);  // the prompt and two decodes
  engine.RunUntilIdle();
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_wasted_tokens, 0);
  engine.ExpectClean();
}

TEST(EngineCoreTest, AStopWastesOneStepLessThanTheRunAheadDepth) {
  EngineOptions options = Options();
  options.run_ahead_depth = 3;
  EngineHarness engine(options, 64);
  EngineRequest request = MakeRequest("a", 5, 50);
  request.sampling.stop_token_ids = {Expected(request)[10]};
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).finish_reason, FinishReason::kStop);
  EXPECT_EQ(engine.Heard(key).tokens, Expected(request));
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_wasted_tokens, 2);
  engine.ExpectClean();
}

TEST(EngineCoreTest, DecodesAreSentWithoutTokensOrTables) {
  EngineHarness engine(Options(), 64);
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

TEST(EngineCoreTest, TheLastOneOutIsReleasedByAPlanOfItsOwn) {
  EngineHarness engine(Options(), 64);
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

TEST(EngineCoreTest, ASlotReleasedAndTakenAgainInOnePlan) {
  EngineOptions options = Options();
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

TEST(EngineCoreTest, APreemptedGroupComesBackWithItsOutputsInItsOldPlace) {
  EngineOptions options = Options();
  options.watermark = 0;
  EngineHarness engine(options, /*num_blocks=*/5);
  engine.KeepPlans();
  // Two fit at first; each wants all 5 blocks in the end.
  const EngineRequest a = MakeRequest("a", 8, 12, 1);
  const EngineRequest b = MakeRequest("b", 8, 12, 2);
  const EngineRequest c = MakeRequest("c", 8, 12, 3);
  const RequestKey key_a = engine.MustSubmit(a);
  const RequestKey key_b = engine.MustSubmit(b);
  const RequestKey key_c = engine.MustSubmit(c);
  engine.RunUntilIdle();
  EXPECT_GT(engine.core().Stats().num_preemptions, 0);
  std::vector<uint64_t> order;
  bool readmitted_with_outputs = false;
  for (const StepPlan& plan : engine.plans()) {
    for (const AdmittedSlot& admitted : plan.admitted) {
      order.push_back(admitted.sequence_id.value());
      EXPECT_EQ(admitted.num_prompt_tokens, 8);
      EXPECT_EQ(admitted.num_computed_tokens, 0);
      readmitted_with_outputs |= admitted.tokens.size() > 8;
    }
  }
  EXPECT_TRUE(readmitted_with_outputs);
  // b was preempted for a, and came back before c came in.
  EXPECT_EQ(std::vector<uint64_t>(order.begin(), order.begin() + 3),
            (std::vector<uint64_t>{1, 2, 2}));
  EXPECT_EQ(engine.Heard(key_a).tokens, Expected(a));
  EXPECT_EQ(engine.Heard(key_b).tokens, Expected(b));
  EXPECT_EQ(engine.Heard(key_c).tokens, Expected(c));
  engine.ExpectClean();
}

TEST(EngineCoreTest, ACancelledRequestIsPlannedNoMoreAndGivesEverythingBack) {
  EngineHarness engine(Options(), 64);
  engine.KeepPlans();
  const RequestKey key = engine.MustSubmit(MakeRequest("a", 40, 50));
  const EngineRequest other = MakeRequest("b", 4, 20, 2);
  const RequestKey other_key = engine.MustSubmit(other);
  engine.Plan();
  engine.Deliver();
  const size_t num_heard = engine.Heard(key).tokens.size();
  const size_t num_plans = engine.plans().size();
  engine.Finish(key, FinishReason::kCancelled);
  const EngineStats stats = engine.core().Stats();
  EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks, 64 - 2);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).tokens.size(), num_heard);
  EXPECT_EQ(engine.Heard(key).num_last_words, 0);
  EXPECT_EQ(engine.plans()[num_plans].released,
            (std::vector<SlotId>{SlotId(0)}));
  for (size_t i = num_plans; i < engine.plans().size(); ++i) {
    for (SlotId slot : engine.plans()[i].decodes) EXPECT_EQ(slot, SlotId(1));
  }
  EXPECT_EQ(engine.Heard(other_key).tokens, Expected(other));
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_cancelled, 1);
  engine.ExpectClean();
  // A request that has ended may be finished again by a client that is late.
  engine.Finish(key, FinishReason::kCancelled);
}

TEST(EngineCoreTest, NoTokenIsPlannedAfterADeadline) {
  EngineHarness engine(Options(), 64);
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
  EXPECT_EQ(engine.Heard(patient_key).tokens, Expected(patient));
  // A deadline is forgotten with its request.
  EXPECT_EQ(engine.core().NextDeadline(), absl::InfiniteFuture());
  engine.ExpectClean();
}

TEST(EngineCoreTest, WhatCannotMeetItsDeadlineEvenAloneIsRefusedAtOnce) {
  EngineHarness engine(Options(), 64);
  // 30 steps of 10 ms each.
  const RequestKey first = engine.MustSubmit(MakeRequest("first", 8, 30));
  while (true) {
    engine.Plan();
    std::optional<StepResult> result = engine.workers().TakeResult();
    if (!result.has_value()) break;
    result->step_us = 10000;
    engine.core().OnStepResult(*std::move(result), engine.now());
  }
  EXPECT_EQ(engine.Heard(first).num_last_words, 1);
  // 50 tokens take half a second.
  EngineRequest late = MakeRequest("late", 8, 50, 2);
  late.deadline = engine.now() + absl::Milliseconds(300);
  const RequestKey late_key = engine.MustSubmit(late);
  const HeardStream& refused = engine.Heard(late_key);
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_NE(refused.status.message().find("and has 300 ms"), std::string::npos)
      << refused.status;
  EXPECT_EQ(engine.intake().num_queued(), 0);
  EXPECT_EQ(engine.core().Stats().num_running, 0);
  // One that may stop earlier, and one with enough time, are served.
  late.request_id = "stops";
  late.sampling.stop_token_ids = {kSimulatedVocabSize - 1};
  const RequestKey stops = engine.MustSubmit(late);
  EngineRequest timely = MakeRequest("timely", 8, 50, 3);
  timely.deadline = engine.now() + absl::Seconds(1);
  const RequestKey timely_key = engine.MustSubmit(timely);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(stops).tokens, ExpectedStream(late));
  EXPECT_EQ(engine.Heard(timely_key).tokens, Expected(timely));
  engine.ExpectClean();
}

TEST(EngineCoreTest, ADeadlineEndsARequestThatWaits) {
  EngineOptions options = Options();
  options.max_num_seqs = 1;
  EngineHarness engine(options, 64);
  engine.MustSubmit(MakeRequest("a", 8, 100));
  EngineRequest waiting = MakeRequest("b", 8, 100);
  waiting.deadline = engine.now() + absl::Seconds(1);
  const RequestKey key = engine.MustSubmit(waiting);
  engine.RunUntilIdle(/*max_steps=*/3);
  EXPECT_EQ(engine.intake().num_queued(), 1);
  engine.Advance(absl::Seconds(1));
  engine.Plan();
  EXPECT_EQ(engine.Heard(key).status.code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(engine.Heard(key).tokens.empty());
  EXPECT_EQ(engine.intake().num_queued(), 0);
  engine.RunUntilIdle();
  engine.ExpectClean();
}

TEST(EngineCoreTest, ALostGroupEndsItsRequestsSayingWhy) {
  EngineHarness engine(Options(), 64);
  const RequestKey running = engine.MustSubmit(MakeRequest("a", 8, 100));
  engine.RunUntilIdle(/*max_steps=*/5);
  const RequestKey waiting = engine.MustSubmit(MakeRequest("b", 8, 100));
  const size_t num_heard = engine.Heard(running).tokens.size();
  engine.Plan();
  engine.LoseGroup("rank 1 hung up");
  for (RequestKey key : {running, waiting}) {
    EXPECT_EQ(engine.Heard(key).status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(engine.Heard(key).status.message(),
              "worker lost: rank 1 hung up; retry");
    EXPECT_EQ(engine.Heard(key).num_last_words, 1);
  }
  EXPECT_EQ(engine.Heard(running).tokens.size(), num_heard);
  EXPECT_FALSE(engine.core().Stats().ready);
  EXPECT_EQ(engine.Plan(), 0);
  EXPECT_TRUE(engine.core().is_idle());
  // The next epoch begins from nothing.
  engine.BeginGroup();
  const EngineRequest next = MakeRequest("a", 8, 10, 5);
  const RequestKey key = engine.MustSubmit(next);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key).tokens, Expected(next));
  engine.ExpectClean();
}

TEST(EngineCoreTest, RequeuedRequestsGoOnAtTheirNextTokenInTheNextEpoch) {
  EngineOptions options = Options();
  options.on_group_lost = OnGroupLostAction::kRequeue;
  options.max_num_seqs = 3;
  EngineHarness engine(options, 20);
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("r", i), 3 + i, 40, i + 1));
    keys.push_back(engine.MustSubmit(requests.back()));
  }
  for (int loss = 0; loss < 4; ++loss) {
    engine.RunUntilIdle(/*max_steps=*/9 + loss);
    engine.Plan();  // leave results in flight
    engine.LoseGroup("rank 0 died");
    EXPECT_EQ(engine.Plan(), 0);
    engine.BeginGroup();
  }
  engine.RunUntilIdle();
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(engine.Heard(keys[i]).tokens, Expected(requests[i]));
    EXPECT_TRUE(engine.Heard(keys[i]).status.ok());
  }
  EXPECT_GE(engine.core().TakeMetrics().counters.num_requeued, 6);
  engine.ExpectClean();
}

TEST(EngineCoreTest, ACancelWhileThereIsNoGroupIsHeard) {
  EngineOptions options = Options();
  options.on_group_lost = OnGroupLostAction::kRequeue;
  EngineHarness engine(options, 20);
  const RequestKey key = engine.MustSubmit(MakeRequest("a", 4, 40));
  engine.RunUntilIdle(/*max_steps=*/3);
  engine.LoseGroup("gone");
  engine.Finish(key, FinishReason::kCancelled);
  engine.BeginGroup();
  EXPECT_EQ(engine.RunUntilIdle(), 0);
  engine.ExpectClean();
}

TEST(EngineCoreTest, ResultsOfAnotherEpochOrStepAreDropped) {
  EngineHarness engine(Options(), 64);
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
  EXPECT_EQ(engine.Heard(key).tokens, Expected(request));
  engine.ExpectClean();
}

TEST(EngineCoreTest, AResultWithTooFewTokensEndsTheEpoch) {
  EngineHarness engine(Options(), 64);
  const RequestKey key = engine.MustSubmit(MakeRequest("a", 8, 10));
  engine.Plan();
  StepResult result = *engine.workers().TakeResult();
  result.tokens.clear();
  engine.core().OnStepResult(result, engine.now());
  engine.Plan();
  EXPECT_EQ(engine.Heard(key).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(engine.core().Stats().ready);
}

TEST(EngineCoreTest, TablesThatDisagreeAreRestatedAndTokensStayRight) {
  for (int depth : {1, 2, 3}) {
    EngineOptions options = Options();
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
      EXPECT_EQ(engine.Heard(keys[i]).tokens, Expected(requests[i]));
    }
    EXPECT_EQ(engine.workers().num_resyncs(), 3);
    EXPECT_EQ(engine.core().TakeMetrics().counters.num_resyncs, 3);
    engine.ExpectClean();
  }
}

TEST(EngineCoreTest, TimesOfARequestAreKept) {
  EngineOptions options = Options();
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

TEST(EngineCoreTest, AStormOfCancelsLeavesEveryBlockFree) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    EngineOptions options = Options();
    options.run_ahead_depth = 1 + seed % 3;
    EngineHarness engine(options, /*num_blocks=*/48);
    std::vector<EngineRequest> requests;
    std::vector<RequestKey> keys;
    std::set<RequestKey> cancelled;
    for (int i = 0; i < 200; ++i) {
      requests.push_back(MakeRequest(absl::StrCat("r", i), 1 + random() % 60,
                                     1 + random() % 40, seed * 1000 + i));
      keys.push_back(engine.MustSubmit(requests.back()));
    }
    while (cancelled.size() < 120) {
      engine.RunUntilIdle(/*max_steps=*/random() % 4);
      const RequestKey key = keys[random() % keys.size()];
      engine.Finish(key, FinishReason::kCancelled);
      cancelled.insert(key);
      ASSERT_TRUE(engine.core().CheckInvariants().ok())
          << engine.core().CheckInvariants();
    }
    engine.RunUntilIdle();
    for (size_t i = 0; i < keys.size(); ++i) {
      const std::vector<TokenId> expected = Expected(requests[i]);
      const std::vector<TokenId>& heard = engine.Heard(keys[i]).tokens;
      if (!cancelled.contains(keys[i])) {
        EXPECT_EQ(heard, expected);
      } else {
        ASSERT_LE(heard.size(), expected.size());
        EXPECT_TRUE(std::equal(heard.begin(), heard.end(), expected.begin()));
      }
    }
    engine.ExpectClean();
  }
}

TEST(EngineCoreTest, WhateverFitsAloneFinishesUnderAnyLoad) {
  int64_t num_preemptions = 0;
  for (uint64_t seed = 1; seed <= 150; ++seed) {
    std::mt19937_64 random(seed);
    EngineOptions options;
    options.block_size = 1 << random() % 6;
    options.max_num_seqs = 1 + random() % 24;
    options.max_num_batched_tokens = 1 + random() % 100;
    options.max_model_len = 128;
    options.run_ahead_depth = 1 + random() % 4;
    options.watermark = random() % 3 * 0.05;
    if (random() % 3 == 0) options.forced_preemption_period = 2 + random() % 9;
    // Hardly more than the largest request needs alone.
    const int32_t least = (128 + options.block_size - 1) / options.block_size;
    EngineHarness engine(options,
                         static_cast<int32_t>(least + random() % (2 * least)));
    std::vector<EngineRequest> requests;
    std::vector<RequestKey> keys;
    const int num_requests = 10 + random() % 30;
    while (keys.size() < num_requests) {
      const int32_t num_prompt_tokens = 1 + random() % 127;
      const int32_t max_tokens = 1 + random() % (128 - num_prompt_tokens);
      requests.push_back(MakeRequest(absl::StrCat("r", keys.size()),
                                     num_prompt_tokens, max_tokens,
                                     seed * 1000 + keys.size()));
      keys.push_back(engine.MustSubmit(requests.back()));
      if (random() % 2 == 0) engine.RunUntilIdle(random() % 20);
    }
    // Far more than they take: only a livelock reaches it.
    engine.RunUntilIdle(/*max_steps=*/200000);
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_EQ(engine.Heard(keys[i]).tokens, Expected(requests[i]))
          << "seed " << seed << " request " << i;
    }
    num_preemptions += engine.core().Stats().num_preemptions;
    engine.ExpectClean();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(num_preemptions, 1000);
}

}  // namespace
}  // namespace quire
