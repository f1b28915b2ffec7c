// SPDX-License-Identifier: Apache-2.0
//
// Requests of several sequences: what they compute once, share, copy, return
// and give back.
#include <algorithm>
#include <numeric>
#include <vector>

#include "coordinator/engine/engine_core.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

TEST(EngineForksTest, EachSequenceIsThatOfARequestWithItsSeed) {
  for (int depth : {1, 2, 3}) {
    // Around block limits, where what is shared changes.
    for (int32_t num_prompt_tokens : {1, 2, 3, 4, 5, 7, 8, 9, 70}) {
      EngineOptions options = SmallEngineOptions();
      options.run_ahead_depth = depth;
      EngineHarness engine(options, 200);
      EngineRequest request = MakeGroup("a", num_prompt_tokens, 20, 5);
      AddStops(20, &request);
      const RequestKey key = engine.MustSubmit(request);
      engine.RunUntilIdle();
      ExpectAll(engine, key, request);
      engine.ExpectClean();
    }
  }
}

TEST(EngineForksTest, ThePromptIsComputedOnceAndItsBlocksAreShared) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  // Two full blocks and a half.
  engine.MustSubmit(MakeGroup("a", 10, 6, 4));
  engine.RunUntilIdle();
  int64_t num_chunk_tokens = 0;
  size_t num_admitted = 0;
  for (const StepPlan& plan : engine.plans()) {
    num_admitted += plan.admitted.size();
    for (const Slice& slice : plan.chunks) num_chunk_tokens += slice.num_tokens;
  }
  EXPECT_EQ(num_chunk_tokens, 10);
  EXPECT_EQ(num_admitted, 1);
  ASSERT_EQ(engine.plans()[1].forks.size(), 3);
  EXPECT_EQ(engine.plans()[1].forks[0],
            (SlotFork{.parent = SlotId(0),
                      .child = SlotId(1),
                      .child_sequence_id = SequenceId(2),
                      .child_seed = SequenceSeed(1, 1),
                      .num_tokens = 10}));
  // The parent writes into the half block at once, the children one step
  // later; the last of the four may keep it.
  EXPECT_EQ(engine.plans()[1].copies.size(), 1);
  EXPECT_EQ(engine.plans()[2].copies.size(), 2);
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_copied_blocks, 3);
  engine.ExpectClean();
}

TEST(EngineForksTest, APromptOfWholeBlocksIsSharedWithoutACopy) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.MustSubmit(MakeGroup("a", 8, 6, 4));
  engine.RunUntilIdle(/*max_steps=*/2);
  EXPECT_EQ(engine.core().TakeMetrics().counters.num_copied_blocks, 0);
  // Two that are shared, and one each.
  EXPECT_EQ(engine.core().Stats().num_free_blocks, 64 - 2 - 4);
  engine.RunUntilIdle();
  engine.ExpectClean();
}

TEST(EngineForksTest, AFinishedSequenceGivesBackItsSlotAndBlocksAtOnce) {
  EngineOptions options = SmallEngineOptions();
  options.max_num_seqs = 3;
  EngineHarness engine(options, 64);
  EngineRequest request = MakeGroup("a", 8, 60, 3);
  const std::vector<TokenId> second = ExpectedStream(request, 1);
  request.sampling.stop_token_ids = {second[4]};
  const RequestKey key = engine.MustSubmit(request);
  // A slot is wanted by another.
  const EngineRequest other = MakeRequest("b", 4, 5, 9);
  const RequestKey other_key = engine.MustSubmit(other);
  engine.RunUntilIdle(/*max_steps=*/20);
  EXPECT_EQ(engine.Heard(key, 1).finish_reason, FinishReason::kStop);
  EXPECT_EQ(engine.Heard(key, 0).num_last_words, 0);
  EXPECT_EQ(engine.Heard(other_key).tokens, ExpectedStream(other));
  engine.RunUntilIdle();
  ExpectAll(engine, key, request);
  engine.ExpectClean();
}

TEST(EngineForksTest, AFirstSequenceThatEndsBeforeItsSiblingsForkIsNoLoss) {
  for (int depth : {1, 2}) {
    EngineOptions options = SmallEngineOptions();
    options.run_ahead_depth = depth;
    EngineHarness engine(options, 64);
    engine.KeepPlans();
    EngineRequest request = MakeGroup("a", 9, 12, 4);
    request.sampling.stop_token_ids = {ExpectedStream(request, 0)[0]};
    const RequestKey key = engine.MustSubmit(request);
    const EngineRequest one_token = MakeGroup("b", 6, 1, 3, 7);
    const RequestKey one_token_key = engine.MustSubmit(one_token);
    engine.RunUntilIdle();
    ExpectAll(engine, key, request);
    ExpectAll(engine, one_token_key, one_token);
    size_t num_admitted = 0;
    for (const StepPlan& plan : engine.plans()) {
      num_admitted += plan.admitted.size();
    }
    EXPECT_EQ(num_admitted, 2);
    engine.ExpectClean();
  }
}

TEST(EngineForksTest, AGroupWaitsForSlotsForAllOfIt) {
  EngineOptions options = SmallEngineOptions();
  options.max_num_seqs = 4;
  EngineHarness engine(options, 64);
  const RequestKey single = engine.MustSubmit(MakeRequest("a", 4, 12));
  const EngineRequest request = MakeGroup("b", 4, 5, 4, 2);
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle(/*max_steps=*/5);
  EXPECT_EQ(engine.core().Stats().num_waiting, 1);
  EXPECT_TRUE(engine.Heard(key).tokens.empty());
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(single).num_last_words, 1);
  ExpectAll(engine, key, request);
  engine.ExpectClean();
}

TEST(EngineForksTest, MoreSequencesThanSlotsOrBlocksAreRefusedAtOnce) {
  EngineHarness engine(SmallEngineOptions(), 20);
  EXPECT_EQ(engine.Submit(MakeGroup("a", 4, 4, 9)).status().message(),
            "the request runs 9 sequences at once; max_num_seqs is 8: lower n, "
            "best_of or beam_width");
  EXPECT_EQ(engine.Submit(MakeGroup("b", 8, 17, 4)).status().message(),
            "prompt and max_tokens, 25 tokens in 4 sequences, need 24 KV "
            "blocks; the pool has 20");
  engine.ExpectClean();
}

TEST(EngineForksTest, OneSequenceMayBeFinishedWithoutTheOthers) {
  EngineHarness engine(SmallEngineOptions(), 64);
  const EngineRequest request = MakeGroup("a", 10, 30, 3);
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle(/*max_steps=*/6);
  engine.core().FinishSequence(key, 1, engine.now());
  engine.core().FinishSequence(key, 1, engine.now());
  engine.core().FinishSequence(key, 7, engine.now());
  engine.RunUntilIdle(/*max_steps=*/3);
  const size_t num_heard = engine.Heard(key, 1).tokens.size();
  EXPECT_LT(num_heard, 10);
  engine.core().FinishSequence(key, 0, engine.now());
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key, 1).tokens.size(), num_heard);
  EXPECT_EQ(engine.Heard(key, 2).tokens, ExpectedStream(request, 2));
  engine.ExpectClean();
}

TEST(EngineForksTest, TheLastSequenceFinishedByAClientEndsTheRequest) {
  EngineHarness engine(SmallEngineOptions(), 64);
  const RequestKey key = engine.MustSubmit(MakeGroup("a", 10, 100, 2));
  engine.RunUntilIdle(/*max_steps=*/6);
  engine.core().FinishSequence(key, 0, engine.now());
  engine.core().FinishSequence(key, 1, engine.now());
  engine.RunUntilIdle();
  EXPECT_EQ(engine.core().Stats().num_finished, 1);
  engine.ExpectClean();
}

// The simulated log probability of a token is minus its id.
double Logprob(const std::vector<TokenId>& tokens) {
  return -std::accumulate(tokens.begin(), tokens.end(), 0.0);
}

TEST(EngineForksTest, BestOfReturnsTheLikeliestBestFirstAtTheEnd) {
  for (int32_t num_logprobs : {-1, 2}) {
    EngineHarness engine(SmallEngineOptions(), 64);
    EngineRequest request = MakeGroup("a", 10, 12, 5);
    request.sampling.n = 2;
    request.sampling.slot.num_logprobs = num_logprobs;
    AddStops(8, &request);
    std::vector<std::vector<TokenId>> streams;
    for (int index = 0; index < 5; ++index) {
      streams.push_back(ExpectedStream(request, index));
    }
    std::sort(streams.begin(), streams.end(), [](const auto& a, const auto& b) {
      return Logprob(a) > Logprob(b);
    });
    const RequestKey key = engine.MustSubmit(request);
    engine.RunUntilIdle(/*max_steps=*/4);
    EXPECT_TRUE(engine.Heard(key, 0).tokens.empty());
    engine.RunUntilIdle();
    for (int rank = 0; rank < 2; ++rank) {
      const HeardStream& heard = engine.Heard(key, rank);
      EXPECT_EQ(heard.tokens, streams[rank]);
      EXPECT_EQ(heard.num_last_words, 1);
      EXPECT_EQ(heard.num_logprobs, num_logprobs < 0 ? 0 : heard.tokens.size());
      if (heard.finish_reason == FinishReason::kStop) {
        EXPECT_EQ(heard.stop_token_id, heard.tokens.back());
      }
    }
    EXPECT_EQ(engine.Heard(key, 2).num_last_words, 0);
    engine.ExpectClean();
  }
}

TEST(EngineForksTest, AGroupIsPreemptedWholeAndComesBackWhole) {
  EngineOptions options = SmallEngineOptions();
  options.watermark = 0;
  EngineHarness engine(options, /*num_blocks=*/24);
  const EngineRequest a = MakeGroup("a", 8, 20, 3, 1);
  const EngineRequest b = MakeGroup("b", 9, 20, 3, 2);
  const RequestKey key_a = engine.MustSubmit(a);
  const RequestKey key_b = engine.MustSubmit(b);
  engine.RunUntilIdle();
  EXPECT_GT(engine.core().Stats().num_preemptions, 0);
  ExpectAll(engine, key_a, a);
  ExpectAll(engine, key_b, b);
  engine.ExpectClean();
}

TEST(EngineForksTest, ALostWorkerGroupIsOutlivedBySiblings) {
  EngineOptions options = SmallEngineOptions();
  options.on_group_lost = OnGroupLostAction::kRequeue;
  EngineHarness engine(options, 64);
  EngineRequest request = MakeGroup("a", 9, 30, 4);
  AddStops(30, &request);
  const RequestKey key = engine.MustSubmit(request);
  for (int loss = 0; loss < 5; ++loss) {
    engine.RunUntilIdle(/*max_steps=*/loss);
    engine.Plan();
    engine.LoseGroup("rank 0 died");
    engine.BeginGroup();
  }
  engine.RunUntilIdle();
  ExpectAll(engine, key, request);
  engine.ExpectClean();
}

TEST(EngineForksTest, TablesThatDisagreeAreRestatedForSiblingsToo) {
  for (int num_steps = 1; num_steps < 8; ++num_steps) {
    EngineHarness engine(SmallEngineOptions(), 64);
    const EngineRequest request = MakeGroup("a", 9, 30, 4);
    const RequestKey key = engine.MustSubmit(request);
    for (int times = 0; times < 3; ++times) {
      engine.RunUntilIdle(num_steps);
      engine.workers().CorruptNextDigest();
    }
    engine.RunUntilIdle();
    ExpectAll(engine, key, request);
    EXPECT_GE(engine.workers().num_resyncs(), 2);
    engine.ExpectClean();
  }
}

// A parent that ends keeps its slot until the plan that carries its fork. That
// plan may compute another prompt, whose siblings get the slot at once.
TEST(EngineForksTest, TheSlotOfAParentThatEndedGoesToAnothersSibling) {
  EngineOptions options = SmallEngineOptions();
  options.run_ahead_depth = 1;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  const EngineRequest a = MakeGroup("a", 8, 20, 2, 1);
  const EngineRequest b = MakeGroup("b", 8, 20, 2, 2);
  const RequestKey key_a = engine.MustSubmit(a);
  engine.Plan();
  engine.core().FinishSequence(key_a, 0, engine.now());
  const RequestKey key_b = engine.MustSubmit(b);
  engine.Deliver();
  engine.Plan();
  ASSERT_TRUE(engine.core().CheckInvariants().ok())
      << engine.core().CheckInvariants();
  engine.Deliver();
  engine.Plan();
  const SlotId left = engine.plans()[0].admitted[0].slot;
  ASSERT_EQ(engine.plans()[2].forks.size(), 1);
  EXPECT_EQ(engine.plans()[2].forks[0].child, left);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(key_a, 1).tokens, ExpectedStream(a, 1));
  ExpectAll(engine, key_b, b);
  engine.ExpectClean();
}

}  // namespace
}  // namespace quire
