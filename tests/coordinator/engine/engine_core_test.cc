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

TEST(EngineCoreTest, AnUnknownNameOrAnOptionOutOfRangeIsRefused) {
  EngineOptions options = SmallEngineOptions();
  options.kv_manager = "flat";
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options = SmallEngineOptions();
  options.scheduling_policy = "lottery";
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options = SmallEngineOptions();
  options.run_ahead_depth = 0;
  EXPECT_EQ(EngineCore::Create(options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(EngineCoreTest, ACancelledRequestIsPlannedNoMoreAndGivesEverythingBack) {
  EngineHarness engine(SmallEngineOptions(), 64);
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
  EXPECT_EQ(engine.Heard(other_key).tokens, ExpectedStream(other));
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_cancelled, 1);
  engine.ExpectClean();
  // A request that has ended may be finished again by a client that is late.
  engine.Finish(key, FinishReason::kCancelled);
}

TEST(EngineCoreTest, WhatCannotMeetItsDeadlineEvenAloneIsRefusedAtOnce) {
  EngineHarness engine(SmallEngineOptions(), 64);
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
  EXPECT_EQ(engine.Heard(timely_key).tokens, ExpectedStream(timely));
  engine.ExpectClean();
}

TEST(EngineCoreTest, ADeadlineEndsARequestThatWaits) {
  EngineOptions options = SmallEngineOptions();
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
  EngineHarness engine(SmallEngineOptions(), 64);
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
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(next));
  engine.ExpectClean();
}

TEST(EngineCoreTest, RequeuedRequestsGoOnAtTheirNextTokenInTheNextEpoch) {
  EngineOptions options = SmallEngineOptions();
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
    EXPECT_EQ(engine.Heard(keys[i]).tokens, ExpectedStream(requests[i]));
    EXPECT_TRUE(engine.Heard(keys[i]).status.ok());
  }
  EXPECT_GE(engine.core().TakeMetrics().counters.num_requeued, 6);
  engine.ExpectClean();
}

TEST(EngineCoreTest, ACancelWhileThereIsNoGroupIsHeard) {
  EngineOptions options = SmallEngineOptions();
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

TEST(EngineCoreTest, AStormOfCancelsLeavesEveryBlockFree) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    EngineOptions options = SmallEngineOptions();
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
      const std::vector<TokenId> expected = ExpectedStream(requests[i]);
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
      ASSERT_EQ(engine.Heard(keys[i]).tokens, ExpectedStream(requests[i]))
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
