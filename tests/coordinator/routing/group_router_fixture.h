// SPDX-License-Identifier: Apache-2.0
//
// Real engine loops over simulated workers, whose tokens are known without
// running them, behind a router. The loops go in lockstep: results are given
// out one to each group at a time, so what runs where does not depend on whose
// thread is fast.
#ifndef TESTS_COORDINATOR_ROUTING_GROUP_ROUTER_FIXTURE_H_
#define TESTS_COORDINATOR_ROUTING_GROUP_ROUTER_FIXTURE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "coordinator/engine/engine_loop.h"
#include "coordinator/routing/group_router.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {

inline constexpr int32_t kRouterBlockSize = 4;

// Every second token is allowed, which ones depends on how many came before.
inline TokenMask MaskAfter(const std::vector<TokenId>& outputs) {
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
        // An error is the whole request's, whichever of its streams has ended.
        if (output.status.ok()) {
          EXPECT_EQ(stream.num_last_words, 0);
        }
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
    options_.block_size = kRouterBlockSize;
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
      auto engine = EngineLoop::Create(options_, &ear_, &clock_, SeatOf(g));
      ASSERT_TRUE(engine.ok()) << engine.status();
      engines_.push_back(*std::move(engine));
      engines.push_back(engines_.back().get());
      workers_.push_back(std::make_unique<SimulatedWorkerGroup>(
          SimulatedGroupOptions{.num_blocks = NumBlocksOf(g),
                                .block_size = kRouterBlockSize,
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

  virtual int32_t NumBlocksOf(int32_t /*g*/) const { return 200; }
  virtual EngineSeat SeatOf(int32_t g) { return router_->seat(g); }

  void Begin(int32_t g) {
    engines_[g]->OnGroupReady(next_[g]);
    Settle();
    ASSERT_TRUE(engines_[g]->Stats().ready);
  }

  // Results that the group's workers have not given yet are lost, too.
  void Lose(int32_t g) {
    engines_[g]->OnGroupLost(Epoch(epochs_[g]),
                             absl::UnavailableError("rank 0 is lost"));
    Settle();
    EXPECT_FALSE(engines_[g]->Stats().ready);
    next_[g] = workers_[g]->Begin(++epochs_[g]);
  }

  RequestKey MustSubmit(const EngineRequest& request) {
    const auto key = router_->Submit(request);
    EXPECT_TRUE(key.ok()) << key.status();
    Settle();
    return key.value_or(RequestKey(0));
  }

  // A loop answers a question when it has handled and planned all that came
  // before it, and the next one when it has told everybody what came of that.
  void AskAllTwice() {
    for (int round = 0; round < 2; ++round) {
      for (const auto& engine : engines_) {
        engine->Explain("nobody").status().IgnoreError();
      }
    }
  }

  // Returns when nobody can do anything without another result. What one loop
  // tells another, of requests that move, may go through all of them.
  void Settle() {
    for (size_t g = 0; g <= engines_.size(); ++g) AskAllTwice();
  }

  // Gives a result to each group that has one, and waits until the loops have
  // done what they can with it. False: no group had one.
  bool Step() {
    bool has_given = false;
    for (size_t g = 0; g < engines_.size(); ++g) {
      if (auto result = workers_[g]->TakeResult()) {
        engines_[g]->OnStepResult(*std::move(result));
        has_given = true;
      }
    }
    if (has_given) AskAllTwice();
    return has_given;
  }

  // Gives results until `done`, which must come before they end.
  template <typename Condition>
  void WaitFor(Condition done) {
    Settle();
    while (!done()) {
      if (Step()) continue;
      ADD_FAILURE() << "waits for what no step brings";
      return;
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

  int64_t NumAdopted(int32_t g) {
    return engines_[g]->TakeMetrics().counters.num_adopted;
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

}  // namespace quire

#endif  // TESTS_COORDINATOR_ROUTING_GROUP_ROUTER_FIXTURE_H_
