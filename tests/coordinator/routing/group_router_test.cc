// SPDX-License-Identifier: Apache-2.0
#include "coordinator/routing/group_router.h"

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/routing/group_router_fixture.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

TEST_F(GroupRouterTest, StreamsAreThoseOfOneGroupAndEveryGroupHasSome) {
  Start(3);
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  std::set<uint64_t> distinct;
  for (int i = 0; i < 60; ++i) {
    requests.push_back(MakeRequest(absl::StrCat(i), 1 + i, 1 + i % 20, i));
    if (i % 5 == 0) requests[i].sampling.n = requests[i].sampling.best_of = 2;
    keys.push_back(MustSubmit(requests[i]));
    distinct.insert(keys[i].value());
  }
  EXPECT_EQ(distinct.size(), 60u);
  for (int i = 0; i < 60; ++i) {
    for (int32_t index = 0; index < requests[i].sampling.n; ++index) {
      EXPECT_EQ(WaitForEnd(keys[i], index).tokens,
                ExpectedStream(requests[i], index))
          << i;
    }
  }
  WaitUntilTidy();
  EXPECT_EQ(router_->Stats().num_finished, 60);
  EXPECT_EQ(router_->Info().num_blocks, 600);
  for (const auto& engine : engines_) {
    EXPECT_GE(engine->Stats().num_finished, 15);
  }
}

// Four conversations of five turns, each turn all that was said before.
int64_t RunConversations(const std::function<RequestKey(EngineRequest)>& submit,
                         const std::function<HeardStream(RequestKey)>& wait) {
  std::vector<EngineRequest> turns;
  for (int c = 0; c < 4; ++c) {
    turns.push_back(MakeRequest("", 41, 8, 100 + c));
  }
  int64_t num_reusable = 0;
  for (int turn = 0; turn < 5; ++turn) {
    std::vector<RequestKey> keys;
    for (int c = 0; c < 4; ++c) {
      turns[c].request_id = absl::StrCat("c", c, "t", turn);
      keys.push_back(submit(turns[c]));
    }
    for (int c = 0; c < 4; ++c) {
      const HeardStream heard = wait(keys[c]);
      std::vector<TokenId>& prompt = turns[c].prompt;
      EXPECT_EQ(heard.tokens, ExpectedStream(turns[c]));
      prompt.insert(prompt.end(), heard.tokens.begin(), heard.tokens.end());
      if (turn < 4) {
        // The last token is not computed.
        num_reusable +=
            (prompt.size() - 1) / kRouterBlockSize * kRouterBlockSize;
      }
    }
  }
  return num_reusable;
}

TEST_F(GroupRouterTest, ATurnGoesWhereItsConversationIsCached) {
  Start(4);
  const int64_t num_reusable = RunConversations(
      [&](EngineRequest request) { return MustSubmit(request); },
      [&](RequestKey key) { return WaitForEnd(key); });
  EXPECT_EQ(NumCacheHits(), num_reusable);
  for (const auto& engine : engines_) {
    EXPECT_EQ(engine->Stats().num_finished, 5);
  }
}

TEST_F(GroupRouterTest, RoundRobinFindsLessWhenTurnsDoNotAlign) {
  Start(3, RoutingPolicy::kRoundRobin);
  const int64_t num_reusable = RunConversations(
      [&](EngineRequest request) { return MustSubmit(request); },
      [&](RequestKey key) { return WaitForEnd(key); });
  EXPECT_LT(NumCacheHits(), num_reusable / 2);
}

TEST_F(GroupRouterTest, RequestsOfALostGroupGoOnInTheOthersTokenExactly) {
  Start(3);
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 24; ++i) {
    requests.push_back(MakeRequest(absl::StrCat(i), 10 + i, 40, i));
    if (i % 6 == 0) requests[i].sampling.n = requests[i].sampling.best_of = 2;
    keys.push_back(MustSubmit(requests[i]));
  }
  for (const RequestKey key : keys) WaitForTokens(key, 3);
  const EngineStats before = engines_[1]->Stats();
  EXPECT_GT(before.num_running, 0);
  EXPECT_EQ(router_->Stats().num_finished, 0);
  Lose(1);
  EXPECT_EQ(NumAdopted(0) + NumAdopted(2), before.num_running);
  for (int i = 0; i < 24; ++i) {
    for (int32_t index = 0; index < requests[i].sampling.n; ++index) {
      const HeardStream heard = WaitForEnd(keys[i], index);
      EXPECT_TRUE(heard.status.ok()) << heard.status;
      EXPECT_EQ(heard.tokens, ExpectedStream(requests[i], index)) << i;
    }
  }
  WaitUntilTidy();
  EXPECT_EQ(engines_[1]->Stats().num_finished, before.num_finished);
  EXPECT_EQ(router_->Info().num_blocks, 400);
  // It comes back, and is used.
  Begin(1);
  keys.clear();
  for (int i = 0; i < 9; ++i) {
    keys.push_back(MustSubmit(MakeRequest(absl::StrCat("n", i), 10, 5, i)));
  }
  for (const RequestKey key : keys) EXPECT_TRUE(WaitForEnd(key).status.ok());
  EXPECT_GT(engines_[1]->Stats().num_finished, before.num_finished);
}

// Six that need masks, a beam search, and one of whose three sequences the best
// is heard when all have ended.
std::vector<EngineRequest> RequestsOfEveryKind() {
  std::vector<EngineRequest> requests;
  for (int i = 0; i < 6; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("m", i), 9, 30, i));
    requests[i].sampling.slot.needs_mask = true;
    requests[i].first_mask = MaskAfter({});
  }
  EngineRequest& beams = requests.emplace_back();
  beams = MakeRequest("beams", 12, 30, 50);
  beams.sampling.slot.temperature = 0;
  beams.sampling.beam_width = 3;
  beams.sampling.n = beams.sampling.best_of = 2;
  requests.push_back(MakeRequest("best", 11, 30, 60));
  requests.back().sampling.best_of = 3;
  return requests;
}

TEST_F(GroupRouterTest, BeamsAndMasksAndWithheldSequencesMove) {
  Start(2);
  ear_.AnswerMasks(router_.get());
  std::vector<EngineRequest> requests = RequestsOfEveryKind();
  std::vector<std::vector<TokenId>> undisturbed;
  for (const EngineRequest& request : requests) {
    undisturbed.push_back(WaitForEnd(MustSubmit(request)).tokens);
    EXPECT_EQ(undisturbed.back().size(), 30u);
  }
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(undisturbed[i], SimulatedStream(requests[i].prompt,
                                              requests[i].sampling, MaskAfter));
  }
  std::vector<RequestKey> keys;
  for (EngineRequest& request : requests) {
    request.request_id += " again";
    keys.push_back(MustSubmit(request));
  }
  // Both groups are lost in turn, in the midst of all streams: each moves once
  // at least.
  for (int i = 0; i < 6; ++i) WaitForTokens(keys[i], 2);
  const int32_t num_first = engines_[0]->Stats().num_running;
  EXPECT_GT(num_first, 0);
  Lose(0);
  EXPECT_EQ(NumAdopted(1), num_first);
  for (int i = 0; i < 6; ++i) WaitForTokens(keys[i], 8);
  for (const RequestKey key : keys) {
    EXPECT_EQ(ear_.Heard(key).num_last_words, 0);
  }
  Begin(0);
  Lose(1);
  EXPECT_EQ(NumAdopted(0), 8);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(WaitForEnd(keys[i]).tokens, undisturbed[i]) << i;
  }
  WaitUntilTidy();
}

TEST_F(GroupRouterTest, WhenAllAreLostTheFirstToComeBackServesAll) {
  Start(2);
  std::vector<EngineRequest> requests;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(MakeRequest(absl::StrCat(i), 10, 20, i));
    keys.push_back(MustSubmit(requests[i]));
  }
  for (const RequestKey key : keys) WaitForTokens(key, 1);
  Lose(0);
  Lose(1);
  EXPECT_EQ(router_->Submit(MakeRequest("late", 5, 5)).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(router_->Stats().num_waiting, 12);
  Begin(1);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(WaitForEnd(keys[i]).tokens, ExpectedStream(requests[i])) << i;
  }
  WaitUntilTidy();
}

TEST_F(GroupRouterTest, WhenAllAreLostForGoodRequestsEndUnavailable) {
  options_.on_group_lost = OnGroupLostAction::kFail;
  Start(2);
  std::vector<RequestKey> keys;
  for (int i = 0; i < 6; ++i) {
    keys.push_back(MustSubmit(MakeRequest(absl::StrCat(i), 10, 50, i)));
  }
  for (const RequestKey key : keys) WaitForTokens(key, 1);
  Lose(1);
  for (const RequestKey key : keys) WaitForTokens(key, 5);
  Lose(0);
  for (const RequestKey key : keys) {
    const absl::Status status = WaitForEnd(key).status;
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("rank 0 is lost"));
  }
}

TEST_F(GroupRouterTest, ARequestThatGroupsDieUnderDoesNotTourTheCluster) {
  Start(4);
  const EngineRequest request = MakeRequest("poison", 10, 100, 3);
  const RequestKey key = MustSubmit(request);
  for (size_t num_lost = 1; num_lost <= 3; ++num_lost) {
    // The third is lost by the very step that runs it alone.
    if (num_lost < 3) WaitForTokens(key, 5 * num_lost);
    int32_t with = 0;
    while (engines_[with]->Stats().num_running == 0) ASSERT_LT(++with, 4);
    Lose(with);
  }
  const absl::Status status = WaitForEnd(key).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("3 worker groups"));
  EXPECT_FALSE(router_->Find("poison").ok());
  EXPECT_TRUE(router_->Stats().ready);  // the fourth was spared
}

TEST_F(GroupRouterTest, AMovedRequestIsFoundCancelledAndExplained) {
  Start(2);
  const RequestKey key = MustSubmit(MakeRequest("a", 10, 500, 1));
  WaitForTokens(key, 3);
  EXPECT_EQ(engines_[0]->Stats().num_running, 1);
  Lose(0);
  WaitForTokens(key, 6);
  EXPECT_EQ(router_->Find("a").value(), key);
  const auto timeline = router_->Explain("a");
  ASSERT_TRUE(timeline.ok()) << timeline.status();
  EXPECT_EQ(timeline->state, TimelineState::kRunning);
  // One account of the whole life: the loss is one interruption of it.
  EXPECT_EQ(timeline->num_preemptions, 1);
  EXPECT_GT(timeline->totals[static_cast<size_t>(WaitReason::kNoWorkerGroup)],
            absl::ZeroDuration());
  router_->Finish(key, FinishReason::kCancelled);
  WaitUntilTidy();
  EXPECT_EQ(router_->Explain("a")->state, TimelineState::kEnded);
  EXPECT_EQ(router_->Explain("b").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(GroupRouterTest, TheQueueAndTheNamesAreOfAllGroupsTogether) {
  options_.max_queued_requests = 5;
  options_.max_num_seqs = 1;
  Start(2);
  std::vector<RequestKey> keys;
  // Two run, and one queue of five waits before both.
  for (int i = 0; i < 2; ++i) {
    keys.push_back(MustSubmit(MakeRequest(absl::StrCat(i), 5, 300, i)));
    WaitForTokens(keys[i], 1);
  }
  for (int i = 2; i < 7; ++i) {
    keys.push_back(MustSubmit(MakeRequest(absl::StrCat(i), 5, 300, i)));
  }
  const absl::Status full = router_->Submit(MakeRequest("x", 5, 5)).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("5 requests wait"));
  EXPECT_EQ(router_->Submit(MakeRequest("6", 5, 5)).status().code(),
            absl::StatusCode::kAlreadyExists);
  for (const RequestKey key : keys) {
    router_->Finish(key, FinishReason::kCancelled);
  }
  WaitUntilTidy();
  EXPECT_EQ(router_->Stats().num_queued, 0);
  EXPECT_TRUE(WaitForEnd(MustSubmit(MakeRequest("x", 5, 5))).status.ok());
}

}  // namespace
}  // namespace quire
