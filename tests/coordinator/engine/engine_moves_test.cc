// SPDX-License-Identifier: Apache-2.0
//
// Requests that go from an engine without workers to another, with both
// engines' books kept.
#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"

namespace quire {
namespace {

EngineOptions Options() {
  EngineOptions options;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 32;
  options.max_model_len = 200;
  options.block_size = 4;
  options.on_group_lost = OnGroupLostAction::kRequeue;
  return options;
}

class EngineMovesTest : public testing::Test {
 protected:
  // All that wait without workers in `from` go to `to`, as engine loops do it.
  int64_t Move(EngineHarness* from, EngineHarness* to) {
    std::vector<MovedGroup> groups = from->core().TakeAll(from->now());
    for (const MovedGroup& moved : groups) {
      from->intake().Ended(moved.group->request_id);
      to->HearOn(*from, moved.group->key);
      to->intake().Adopt(moved.group->request_id, moved.group->key,
                         !moved.group->was_scheduled(),
                         moved.group->sequences[0].num_prompt_tokens);
    }
    for (auto moved = groups.rbegin(); moved != groups.rend(); ++moved) {
      to->core().Adopt(std::move(*moved), to->now());
    }
    return static_cast<int64_t>(groups.size());
  }

  EngineHarness from_{Options(), /*num_blocks=*/100};
  EngineHarness to_{Options(), /*num_blocks=*/100};
};

TEST_F(EngineMovesTest, StreamsGoOnAtTheirNextTokenAndNothingIsLeftBehind) {
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 7; ++i) {  // more than there are slots
    requests.push_back(MakeRequest(std::to_string(i), 9 + i, 20, i));
    if (i == 2) requests[i].sampling.n = requests[i].sampling.best_of = 2;
    keys.push_back(from_.MustSubmit(requests[i]));
  }
  for (int step = 0; step < 6; ++step) {
    from_.Plan();
    from_.Deliver();
  }
  from_.LoseGroup("gone");
  EXPECT_EQ(Move(&from_, &to_), 7);
  from_.Plan();  // whatever effects there are
  to_.RunUntilIdle();
  for (int i = 0; i < 7; ++i) {
    for (int32_t index = 0; index < requests[i].sampling.n; ++index) {
      EXPECT_EQ(to_.Heard(keys[i], index).tokens,
                ExpectedStream(requests[i], index))
          << i;
    }
  }
  from_.BeginGroup();
  from_.ExpectClean();
  to_.ExpectClean();
}

TEST_F(EngineMovesTest, ThoseThatComeGoBeforeThoseThatWaitInTheirOrder) {
  // Keys of the two engines are apart.
  for (int i = 0; i < 10; ++i) {
    to_.Finish(to_.MustSubmit(MakeRequest("x", 8, 1)), FinishReason::kStop);
  }
  std::map<RequestKey, std::string> names;
  for (EngineHarness* engine : {&from_, &to_}) {
    for (int i = 0; i < 5; ++i) {  // four run, one waits
      const std::string name = (engine == &to_ ? "t" : "f") + std::to_string(i);
      names[engine->MustSubmit(MakeRequest(name, 8, 12, i))] = name;
    }
    engine->Plan();
    engine->Deliver();
  }
  from_.LoseGroup("gone");
  EXPECT_EQ(Move(&from_, &to_), 5);
  std::vector<std::string> order;
  to_.Listen([&](const SequenceOutput& output) {
    const std::string& name = names[output.request];
    if (std::find(order.begin(), order.end(), name) == order.end()) {
      order.push_back(name);
    }
  });
  to_.RunUntilIdle();
  EXPECT_THAT(order, testing::ElementsAre("t0", "t1", "t2", "t3", "f0", "f1",
                                          "f2", "f3", "f4", "t4"));
}

TEST_F(EngineMovesTest, WhatWasComputedIsPaidForAndThoseThatRanAreMarked) {
  for (int i = 0; i < 5; ++i) {
    from_.MustSubmit(MakeRequest(std::to_string(i), 8, 12, i));
  }
  from_.Plan();
  from_.Deliver();
  from_.LoseGroup("gone");
  const std::vector<MovedGroup> groups = from_.core().TakeAll(from_.now());
  ASSERT_EQ(groups.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(groups[i].group->request_id, std::to_string(i));
    EXPECT_EQ(groups[i].group->num_lost_groups, i < 4 ? 1 : 0);
    EXPECT_EQ(groups[i].num_charged_tokens > 0, i < 4);
  }
}

TEST_F(EngineMovesTest, AnAccountOfWaitingGoesAlong) {
  const RequestKey key = from_.MustSubmit(MakeRequest("a", 9, 20, 1));
  from_.Plan();
  from_.Deliver();
  from_.Advance(absl::Seconds(1));
  to_.Advance(absl::Seconds(3));
  from_.LoseGroup("gone");
  EXPECT_EQ(Move(&from_, &to_), 1);
  EXPECT_EQ(from_.core().Explain("a", from_.now()).status().code(),
            absl::StatusCode::kNotFound);
  to_.Plan();
  const auto timeline = to_.core().Explain("a", to_.now());
  ASSERT_TRUE(timeline.ok()) << timeline.status();
  EXPECT_EQ(timeline->state, TimelineState::kRunning);
  EXPECT_EQ(timeline->num_preemptions, 1);
  // Lost at 1 s, admitted elsewhere at 3 s: no moment is missing.
  EXPECT_EQ(timeline->waited(), absl::Seconds(2));
  to_.RunUntilIdle();
  EXPECT_EQ(to_.Heard(key).num_last_words, 1);
}

TEST_F(EngineMovesTest, ADeadlineGoesAlong) {
  EngineRequest request = MakeRequest("a", 9, 100, 1);
  request.deadline = to_.now() + absl::Seconds(5);
  const RequestKey key = from_.MustSubmit(request);
  from_.LoseGroup("gone");
  EXPECT_EQ(Move(&from_, &to_), 1);
  to_.LoseGroup("gone too");
  to_.Advance(absl::Seconds(6));
  to_.Plan();
  EXPECT_EQ(to_.Heard(key).status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EngineMovesTest, TheThirdGroupThatItsStepLosesEndsTheRequest) {
  const RequestKey key = from_.MustSubmit(MakeRequest("a", 9, 100, 1));
  EngineHarness* here = &from_;
  EngineHarness* there = &to_;
  for (int num_lost = 1; num_lost <= 3; ++num_lost) {
    here->Plan();
    here->LoseGroup("gone");
    EXPECT_EQ(Move(here, there), num_lost < 3 ? 1 : 0);
    here->BeginGroup();
    std::swap(here, there);
  }
  there->Plan();
  EXPECT_EQ(there->Heard(key).status.code(), absl::StatusCode::kInternal);
  from_.ExpectClean();
  to_.ExpectClean();
}

TEST_F(EngineMovesTest, OneThatDoesNotFitTheOtherPoolEnds) {
  EngineHarness small(Options(), /*num_blocks=*/10);
  const RequestKey key = from_.MustSubmit(MakeRequest("a", 30, 100, 1));
  from_.LoseGroup("gone");
  EXPECT_EQ(Move(&from_, &small), 1);
  small.Plan();
  EXPECT_EQ(small.Heard(key).status.code(), absl::StatusCode::kUnavailable);
  small.ExpectClean();
}

}  // namespace
}  // namespace quire
