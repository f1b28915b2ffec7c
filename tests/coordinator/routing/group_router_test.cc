// SPDX-License-Identifier: Apache-2.0
//
// Real engine loops over simulated workers, whose tokens are known without
// running them.
#include "coordinator/routing/group_router.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kBlockSize = 4;

// Every second token is allowed, which ones depends on how many came before.
TokenMask MaskAfter(const std::vector<TokenId>& outputs) {
  return TokenMask((kSimulatedVocabSize + 31) / 32,
                   outputs.size() % 2 == 0 ? 0x55555555u : 0xaaaaaaaau);
}

// Collects streams; answers for those that need masks.
class Ear final : public OutputListener {
 public:
  void AnswerMasks(EngineClient* engine) {
    absl::MutexLock lock(&mutex_);
    engine_ = engine;
  }

  void OnOutputs(std::vector<SequenceOutput> outputs) override {
    std::vector<std::pair<SequenceOutput, std::vector<TokenId>>> masked;
    EngineClient* engine;
    {
      absl::MutexLock lock(&mutex_);
      engine = engine_;
      for (SequenceOutput& output : outputs) {
        HeardStream& stream = streams_[{output.request, output.index}];
        EXPECT_EQ(stream.num_last_words, 0);
        EXPECT_EQ(output.token_offset, stream.tokens.size());
        stream.tokens.insert(stream.tokens.end(), output.tokens.begin(),
                             output.tokens.end());
        stream.num_cached_tokens += output.num_cached_tokens;
        if (output.finish_reason != FinishReason::kNone ||
            !output.status.ok()) {
          ++stream.num_last_words;
          stream.finish_reason = output.finish_reason;
          stream.status = output.status;
        } else if (engine != nullptr) {
          masked.emplace_back(std::move(output), stream.tokens);
        }
      }
    }
    for (const auto& [output, tokens] : masked) {
      engine->SetMask(output.request, output.index, tokens.size(),
                      MaskAfter(tokens));
    }
  }

  HeardStream Heard(RequestKey key, int32_t index = 0) {
    absl::MutexLock lock(&mutex_);
    return streams_[{key, index}];
  }

 private:
  absl::Mutex mutex_;
  EngineClient* engine_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::map<std::pair<RequestKey, int32_t>, HeardStream> streams_
      ABSL_GUARDED_BY(mutex_);
};

class GroupRouterTest : public testing::Test {
 protected:
  GroupRouterTest() {
    options_.max_num_seqs = 16;
    options_.max_num_batched_tokens = 64;
    options_.max_model_len = 600;
    options_.block_size = kBlockSize;
    options_.on_group_lost = OnGroupLostAction::kRequeue;
  }

  ~GroupRouterTest() override {
    for (const auto& engine : engines_) engine->Stop();
    for (const auto& workers : workers_) {
      EXPECT_TRUE(workers->status().ok()) << workers->status();
    }
  }

  void Start(int32_t num_groups,
             RoutingPolicy policy = RoutingPolicy::kEarliestStart) {
    router_ = std::make_unique<GroupRouter>(options_, num_groups, policy);
    std::vector<EngineLoop*> engines;
    for (int32_t g = 0; g < num_groups; ++g) {
      auto engine =
          EngineLoop::Create(options_, &ear_, &clock_, router_->seat(g));
      ASSERT_TRUE(engine.ok()) << engine.status();
      engines_.push_back(*std::move(engine));
      engines.push_back(engines_.back().get());
      workers_.push_back(std::make_unique<SimulatedWorkerGroup>(
          SimulatedGroupOptions{.num_blocks = 200,
                                .block_size = kBlockSize,
                                .max_num_seqs = options_.max_num_seqs}));
      epochs_.push_back(1);
      next_.push_back(workers_[g]->Begin(epochs_[g]));
    }
    router_->SetEngines(engines);
    for (int32_t g = 0; g < num_groups; ++g) {
      engines_[g]->Start(workers_[g].get());
      Begin(g);
    }
  }

  void Begin(int32_t g) {
    engines_[g]->OnGroupReady(next_[g]);
    ASSERT_TRUE(engines_[g]->AwaitReady(absl::InfiniteFuture()));
  }

  void Lose(int32_t g) {
    engines_[g]->OnGroupLost(Epoch(epochs_[g]),
                             absl::UnavailableError("rank 0 is lost"));
    WaitFor([&] { return !engines_[g]->Stats().ready; });
    next_[g] = workers_[g]->Begin(++epochs_[g]);
  }

  RequestKey MustSubmit(const EngineRequest& request) {
    const auto key = router_->Submit(request);
    EXPECT_TRUE(key.ok()) << key.status();
    return key.value_or(RequestKey(0));
  }

  // Gives every engine its results until `done`. Nothing here tells when there
  // are some; the loops are busy, so look again.
  template <typename Condition>
  void WaitFor(Condition done) {
    while (!done()) {
      for (size_t g = 0; g < engines_.size(); ++g) {
        if (auto result = workers_[g]->TakeResult()) {
          engines_[g]->OnStepResult(*std::move(result));
        }
      }
      std::this_thread::yield();
    }
  }

  HeardStream WaitForEnd(RequestKey key, int32_t index = 0) {
    WaitFor([&] { return ear_.Heard(key, index).num_last_words > 0; });
    return ear_.Heard(key, index);
  }

  void WaitForTokens(RequestKey key, size_t num_tokens) {
    WaitFor([&] { return ear_.Heard(key).tokens.size() >= num_tokens; });
  }

  void WaitUntilTidy() {
    WaitFor([&] {
      const EngineStats stats = router_->Stats();
      bool tidy =
          stats.num_running == 0 && stats.num_waiting == 0 &&
          stats.num_free_blocks + stats.num_cached_blocks == stats.num_blocks;
      for (const auto& workers : workers_) {
        tidy &= workers->num_live_slots() == 0;
      }
      return tidy;
    });
  }

  int64_t NumCacheHits() {
    int64_t num_tokens = 0;
    for (const auto& engine : engines_) {
      num_tokens += engine->TakeMetrics().counters.num_cache_hit_tokens;
    }
    return num_tokens;
  }

  EngineOptions options_;
  RealClock clock_;
  Ear ear_;
  std::unique_ptr<GroupRouter> router_;
  std::vector<std::unique_ptr<SimulatedWorkerGroup>> workers_;
  std::vector<std::unique_ptr<EngineLoop>> engines_;
  std::vector<uint64_t> epochs_;
  std::vector<GroupReady> next_;  // life of each group's workers
};

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
        num_reusable += (prompt.size() - 1) / kBlockSize * kBlockSize;
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
  Lose(1);
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
  EXPECT_EQ(engines_[0]->TakeMetrics().counters.num_adopted +
                engines_[2]->TakeMetrics().counters.num_adopted,
            before.num_running);
  // It comes back, and is used.
  Begin(1);
  keys.clear();
  for (int i = 0; i < 9; ++i) {
    keys.push_back(MustSubmit(MakeRequest(absl::StrCat("n", i), 10, 5, i)));
  }
  for (const RequestKey key : keys) EXPECT_TRUE(WaitForEnd(key).status.ok());
  EXPECT_GT(engines_[1]->Stats().num_finished, before.num_finished);
}

TEST_F(GroupRouterTest, BeamsAndMasksAndWithheldSequencesMove) {
  Start(2);
  ear_.AnswerMasks(router_.get());
  std::vector<EngineRequest> masked;
  std::vector<RequestKey> keys;
  for (int i = 0; i < 6; ++i) {
    masked.push_back(MakeRequest(absl::StrCat("m", i), 9, 30, i));
    masked[i].sampling.slot.needs_mask = true;
    masked[i].first_mask = MaskAfter({});
    keys.push_back(MustSubmit(masked[i]));
  }
  EngineRequest beams = MakeRequest("beams", 12, 20, 50);
  beams.sampling.slot.temperature = 0;
  beams.sampling.beam_width = 3;
  beams.sampling.n = beams.sampling.best_of = 2;
  const RequestKey undisturbed = MustSubmit(beams);
  const std::vector<TokenId> best = WaitForEnd(undisturbed, 0).tokens;
  beams.request_id = "beams again";
  const RequestKey disturbed = MustSubmit(beams);
  // Both groups are lost in turn, in the midst of all streams.
  for (const RequestKey key : keys) WaitForTokens(key, 2);
  Lose(0);
  for (const RequestKey key : keys) WaitForTokens(key, 8);
  Begin(0);
  Lose(1);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(WaitForEnd(keys[i]).tokens,
              SimulatedStream(masked[i].prompt, masked[i].sampling, MaskAfter))
        << i;
  }
  EXPECT_EQ(WaitForEnd(disturbed, 0).tokens, best);
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
  WaitFor([&] { return router_->Stats().num_waiting == 12; });
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
    WaitForTokens(key, 5 * num_lost);
    int32_t with = -1;
    WaitFor([&] {
      for (size_t g = 0; g < engines_.size(); ++g) {
        if (engines_[g]->Stats().num_running > 0) with = g;
      }
      return with >= 0;
    });
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
