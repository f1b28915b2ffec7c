// SPDX-License-Identifier: Apache-2.0
//
// How groups come in and are put out: what an admission finds, what it tells
// the workers, and what a preempted group has when it comes back.
#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

constexpr int32_t kBlockSize = 4;

// Every admission of all plans so far, in order.
std::vector<AdmittedSlot> Admissions(const EngineHarness& engine) {
  std::vector<AdmittedSlot> all;
  for (const StepPlan& plan : engine.plans()) {
    all.insert(all.end(), plan.admitted.begin(), plan.admitted.end());
  }
  return all;
}

TEST(EngineAdmissionTest, APreemptedGroupComesBackWithItsOutputsInItsOldPlace) {
  EngineOptions options = SmallEngineOptions();
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
  EXPECT_EQ(engine.Heard(key_a).tokens, ExpectedStream(a));
  EXPECT_EQ(engine.Heard(key_b).tokens, ExpectedStream(b));
  EXPECT_EQ(engine.Heard(key_c).tokens, ExpectedStream(c));
  engine.ExpectClean();
}

TEST(EngineAdmissionTest, APromptIsFoundWhileTheOneThatComputesItStillRuns) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  const EngineRequest first = MakeRequest("first", 41, 30);
  const RequestKey first_key = engine.MustSubmit(first);
  engine.RunUntilIdle(/*max_steps=*/2);
  ASSERT_EQ(engine.Heard(first_key).num_last_words, 0);
  EngineRequest second = MakeRequest("second", 41, 5);
  const RequestKey second_key = engine.MustSubmit(second);
  engine.RunUntilIdle();
  const std::vector<AdmittedSlot> admissions = Admissions(engine);
  ASSERT_EQ(admissions.size(), 2);
  EXPECT_EQ(admissions[0].num_computed_tokens, 0);
  EXPECT_EQ(admissions[1].num_computed_tokens, 40);
  EXPECT_EQ(engine.Heard(first_key).num_cached_tokens, 0);
  EXPECT_EQ(engine.Heard(second_key).num_cached_tokens, 40);
  EXPECT_EQ(engine.Heard(second_key).tokens, ExpectedStream(second));
  engine.ExpectClean();
}

// Alone the second wants 11 of the 14 blocks, of which the first has 11.
TEST(EngineAdmissionTest, WhatAnotherHasComputedMeanwhileLetsAGroupIn) {
  EngineOptions options = SmallEngineOptions();
  options.max_num_batched_tokens = 16;
  options.watermark = 0;
  EngineHarness engine(options, /*num_blocks=*/14);
  const EngineRequest first = MakeRequest("first", 41, 3);
  const EngineRequest second = MakeRequest("second", 41, 2);
  const RequestKey first_key = engine.MustSubmit(first);
  const RequestKey second_key = engine.MustSubmit(second);
  engine.Plan();  // nothing is there of the prompt: it has to wait
  EXPECT_EQ(engine.core().Stats().num_waiting, 1);
  engine.Deliver();
  engine.Plan();
  engine.Deliver();
  engine.Plan();
  EXPECT_EQ(engine.Heard(first_key).num_last_words, 0);
  EXPECT_EQ(engine.core().Stats().num_running, 2);
  engine.RunUntilIdle();
  EXPECT_EQ(engine.Heard(first_key).tokens, ExpectedStream(first));
  EXPECT_EQ(engine.Heard(second_key).tokens, ExpectedStream(second));
  EXPECT_EQ(engine.core().Stats().num_preemptions, 0);
  engine.ExpectClean();
}

TEST(EngineAdmissionTest, WhoOptsOutNeitherFindsPrefixesNorLeavesTheirs) {
  EngineHarness engine(SmallEngineOptions(), 64);
  engine.KeepPlans();
  for (const char* id : {"leaves", "opts out"}) {
    EngineRequest request = MakeRequest(id, 21, 2);
    request.use_prefix_cache = std::string(id) == "leaves";
    engine.MustSubmit(request);
    engine.RunUntilIdle();
  }
  EngineRequest other = MakeRequest("opts out too", 21, 2, /*seed=*/2);
  other.use_prefix_cache = false;
  engine.MustSubmit(other);
  engine.RunUntilIdle();
  engine.MustSubmit(MakeRequest("searches in vain", 21, 2, /*seed=*/2));
  engine.RunUntilIdle();
  for (const AdmittedSlot& admitted : Admissions(engine)) {
    EXPECT_EQ(admitted.num_computed_tokens, 0) << admitted.sequence_id;
  }
  const EngineCounters counters = engine.core().TakeMetrics().counters;
  EXPECT_EQ(counters.num_cache_query_tokens, 2 * 21);
  EXPECT_EQ(counters.num_cache_hit_tokens, 0);
  engine.ExpectClean();
}

// Tokens after the prompt and 4 pages are sparse: nobody else's.
TEST(EngineAdmissionTest, SparseTokensAreFoundByNobody) {
  for (const int32_t sparse_pages : {0, 4}) {
    EngineOptions options = SmallEngineOptions();
    options.sparse_pages = sparse_pages;
    EngineHarness engine(options, 64);
    engine.KeepPlans();
    const EngineRequest first = MakeRequest("first", 9, 40);
    const RequestKey key = engine.MustSubmit(first);
    engine.RunUntilIdle();
    EngineRequest next = first;
    next.request_id = "next";
    const std::vector<TokenId>& outputs = engine.Heard(key).tokens;
    next.prompt.insert(next.prompt.end(), outputs.begin(), outputs.end());
    engine.MustSubmit(next);
    engine.RunUntilIdle();
    // 49 tokens, of which the last was never computed.
    EXPECT_EQ(Admissions(engine).back().num_computed_tokens,
              sparse_pages == 0 ? 48 : 4 * kBlockSize);
    engine.ExpectClean();
  }
}

TEST(EngineAdmissionTest, WorkersScoreTokensWhenTheLikeliestAreToBeChosen) {
  struct Case {
    int32_t best_of;
    int32_t asked;  // log probabilities
    int32_t told;
  };
  // One is returned: of several, the likeliest.
  for (const Case& c : {Case{1, -1, -1}, Case{3, -1, 0}, Case{3, 2, 2}}) {
    EngineHarness engine(SmallEngineOptions(), 64);
    engine.KeepPlans();
    EngineRequest request = MakeRequest("a", 8, 3);
    request.sampling.best_of = c.best_of;
    request.sampling.slot.num_logprobs = c.asked;
    engine.MustSubmit(request);
    engine.RunUntilIdle();
    EXPECT_EQ(Admissions(engine)[0].sampling.num_logprobs, c.told);
    engine.ExpectClean();
  }
}

TEST(EngineAdmissionTest, APromptThatWasScoredIsNotScoredAgain) {
  EngineOptions options = SmallEngineOptions();
  options.forced_preemption_period = 4;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  EngineRequest request = MakeRequest("a", 8, 12);
  request.sampling.slot.num_prompt_logprobs = 1;
  engine.MustSubmit(request);
  engine.RunUntilIdle();
  const std::vector<AdmittedSlot> admissions = Admissions(engine);
  ASSERT_GE(admissions.size(), 2);
  EXPECT_EQ(admissions[0].sampling.num_prompt_logprobs, 1);
  EXPECT_EQ(admissions[1].sampling.num_prompt_logprobs, -1);
  engine.ExpectClean();
}

// Whoever was put out finds his own blocks, which is no hit of a prefix.
TEST(EngineAdmissionTest, HitsCountWhenARequestComesNotWhenItComesBack) {
  EngineOptions options = SmallEngineOptions();
  options.forced_preemption_period = 5;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  const EngineRequest request = MakeRequest("a", 21, 20);
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle();
  const std::vector<AdmittedSlot> admissions = Admissions(engine);
  ASSERT_GE(admissions.size(), 2);
  EXPECT_GE(admissions.back().num_computed_tokens, 20);
  EXPECT_EQ(engine.Heard(key).num_cached_tokens, 0);
  const EngineCounters counters = engine.core().TakeMetrics().counters;
  EXPECT_EQ(counters.num_cache_query_tokens, 21);
  EXPECT_EQ(counters.num_cache_hit_tokens, 0);
  EXPECT_EQ(engine.Heard(key).tokens, ExpectedStream(request));
  engine.ExpectClean();
}

// Put out in the second plan: the first sequence has a token in flight, its
// siblings have none, so they fork from it again.
TEST(EngineAdmissionTest, SiblingsWithoutOutputsComeBackAsForks) {
  EngineOptions options = SmallEngineOptions();
  options.forced_preemption_period = 2;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  EngineRequest request = MakeRequest("a", 8, 2);
  request.sampling.n = request.sampling.best_of = 3;
  const RequestKey key = engine.MustSubmit(request);
  engine.RunUntilIdle();
  EXPECT_GT(engine.core().Stats().num_preemptions, 0);
  const std::vector<AdmittedSlot> admissions = Admissions(engine);
  ASSERT_GE(admissions.size(), 2);
  EXPECT_EQ(admissions[1].sequence_id, admissions[0].sequence_id);
  EXPECT_EQ(admissions[1].tokens.size(), 9);
  int32_t num_forks = 0;
  for (const StepPlan& plan : engine.plans()) {
    num_forks += static_cast<int32_t>(plan.forks.size());
    for (const SlotFork& fork : plan.forks) EXPECT_EQ(fork.num_tokens, 8);
  }
  EXPECT_EQ(num_forks, 2);
  for (int32_t index = 0; index < 3; ++index) {
    EXPECT_EQ(engine.Heard(key, index).tokens, ExpectedStream(request, index));
  }
  engine.ExpectClean();
}

TEST(EngineAdmissionTest, SlotsOfSiblingsAreKeptUntilTheyFork) {
  EngineOptions options = SmallEngineOptions();
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 16;
  EngineHarness engine(options, 64);
  engine.KeepPlans();
  engine.MustSubmit(MakeRequest("one", 4, 40, /*seed=*/2));
  EngineRequest group = MakeRequest("group", 40, 4);
  group.sampling.n = group.sampling.best_of = 3;
  const RequestKey group_key = engine.MustSubmit(group);
  engine.MustSubmit(MakeRequest("too many", 4, 40, /*seed=*/3));
  EXPECT_EQ(engine.Plan(), 2);  // the group's prompt takes three
  // Two of four slots are taken; the others are free, but spoken for.
  EXPECT_EQ(engine.core().Stats().num_running, 2);
  EXPECT_EQ(engine.core().Stats().num_waiting, 1);
  engine.RunUntilIdle();
  EXPECT_EQ(Admissions(engine).size(), 3);
  for (int32_t index = 0; index < 3; ++index) {
    EXPECT_EQ(engine.Heard(group_key, index).tokens,
              ExpectedStream(group, index));
  }
  engine.ExpectClean();
}

}  // namespace
}  // namespace quire
