// SPDX-License-Identifier: Apache-2.0
#include "coordinator/engine/engine_loop.h"

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "common/step_plan.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/engine/engine_watcher.h"
#include "coordinator/engine/moved_group.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

// Collects what the engine says; waits on conditions, never on time.
class Ear final : public OutputListener {
 public:
  void OnOutputs(std::vector<SequenceOutput> outputs) override {
    absl::MutexLock lock(&mutex_);
    for (SequenceOutput& output : outputs) {
      HeardStream& stream = streams_[output.request];
      stream.tokens.insert(stream.tokens.end(), output.tokens.begin(),
                           output.tokens.end());
      if (output.finish_reason != FinishReason::kNone || !output.status.ok()) {
        ++stream.num_last_words;
        stream.finish_reason = output.finish_reason;
        stream.status = output.status;
      }
    }
  }

  HeardStream WaitForEnd(RequestKey key) {
    absl::MutexLock lock(&mutex_);
    const auto ended = [&] { return streams_[key].num_last_words > 0; };
    mutex_.Await(absl::Condition(&ended));
    return streams_[key];
  }

  void WaitForTokens(RequestKey key, int num_tokens) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&] {
      return streams_[key].tokens.size() >= num_tokens;
    };
    mutex_.Await(absl::Condition(&there));
  }

 private:
  absl::Mutex mutex_;
  std::map<RequestKey, HeardStream> streams_;
};

constexpr int32_t kNumBlocks = 200;

class EngineLoopTest : public testing::Test {
 protected:
  EngineLoopTest()
      : workers_(
            {.num_blocks = kNumBlocks, .block_size = 4, .max_num_seqs = 16}) {
    options_.max_num_seqs = 16;
    options_.max_num_batched_tokens = 64;
    options_.max_model_len = 600;
    options_.block_size = 4;
    options_.max_queued_requests = 1000;
  }

  ~EngineLoopTest() override {
    if (loop_ != nullptr) loop_->Stop();
    EXPECT_TRUE(workers_.status().ok()) << workers_.status();
  }

  void Start(bool deliver = true) {
    auto loop = EngineLoop::Create(options_, &ear_, &clock_);
    ASSERT_TRUE(loop.ok()) << loop.status();
    loop_ = *std::move(loop);
    if (deliver) workers_.DeliverTo(loop_.get());
    loop_->OnGroupReady(workers_.Begin(1));
    loop_->Start(&workers_);
    ASSERT_TRUE(loop_->AwaitReady(absl::InfiniteFuture()));
  }

  // The loop gives no signal for these; it is busy, so look again.
  template <typename Condition>
  void WaitFor(Condition condition) {
    while (!condition()) std::this_thread::yield();
  }

  // All blocks are free and the workers know it.
  void WaitUntilTidy() {
    WaitFor([this] {
      const EngineStats stats = loop_->Stats();
      return stats.num_running == 0 && stats.num_waiting == 0 &&
             stats.num_free_blocks + stats.num_cached_blocks ==
                 stats.num_blocks &&
             workers_.num_live_slots() == 0;
    });
  }

  // Prefixes may stay behind.
  int32_t NumUnheldBlocks() {
    const EngineStats stats = loop_->Stats();
    return stats.num_free_blocks + stats.num_cached_blocks;
  }

  EngineOptions options_;
  RealClock clock_;
  Ear ear_;
  SimulatedWorkerGroup workers_;
  std::unique_ptr<EngineLoop> loop_;
};

TEST_F(EngineLoopTest, StreamsOfManyClientsAreThoseOfEachAlone) {
  Start();
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([this, client] {
      for (int i = 0; i < 25; ++i) {
        const EngineRequest request = MakeRequest(
            absl::StrCat(client, "/", i), 1 + i * 3, 1 + i, client * 100 + i);
        const auto key = loop_->Submit(request);
        ASSERT_TRUE(key.ok()) << key.status();
        EXPECT_EQ(ear_.WaitForEnd(*key).tokens,
                  SimulatedStream(request.prompt, request.sampling));
      }
    });
  }
  for (std::thread& client : clients) client.join();
  WaitUntilTidy();
  EXPECT_EQ(loop_->Stats().num_finished, 100);
  const EngineMetrics metrics = loop_->TakeMetrics();
  EXPECT_EQ(metrics.requests.size(), 100);
  EXPECT_EQ(metrics.counters.num_finished_length, 100);
}

TEST_F(EngineLoopTest, SaysWhatItServes) {
  Start();
  const EngineInfo info = loop_->Info();
  EXPECT_EQ(info.num_blocks, kNumBlocks);
  EXPECT_EQ(info.block_size, 4);
  EXPECT_EQ(info.max_model_len, 600);
  EXPECT_EQ(info.max_num_seqs, 16);
  EXPECT_EQ(info.max_num_batched_tokens, 64);
}

TEST_F(EngineLoopTest, AwaitReadyGivesUpWithoutWorkersOrALoop) {
  auto loop = EngineLoop::Create(options_, &ear_, &clock_);
  ASSERT_TRUE(loop.ok()) << loop.status();
  (*loop)->Start(&workers_);
  EXPECT_FALSE((*loop)->AwaitReady(clock_.Now()));
  (*loop)->Stop();
  EXPECT_FALSE((*loop)->AwaitReady(absl::InfiniteFuture()));
}

TEST_F(EngineLoopTest, AwaitReadyEndsWithTheGroupThatItAwaits) {
  auto loop = EngineLoop::Create(options_, &ear_, &clock_);
  ASSERT_TRUE(loop.ok()) << loop.status();
  (*loop)->Start(&workers_);
  (*loop)->OnGroupLost(Epoch(2), absl::InternalError("the pool is refused"));
  EXPECT_FALSE((*loop)->AwaitReady(absl::InfiniteFuture(), Epoch(2)));
  // A loss of old says nothing of a group that comes.
  EXPECT_FALSE((*loop)->AwaitReady(clock_.Now(), Epoch(3)));
  (*loop)->OnGroupReady(workers_.Begin(3));
  EXPECT_TRUE((*loop)->AwaitReady(absl::InfiniteFuture(), Epoch(3)));
}

TEST_F(EngineLoopTest, IsUnavailableBeforeWorkersAreReady) {
  auto loop = EngineLoop::Create(options_, &ear_, &clock_);
  ASSERT_TRUE(loop.ok());
  EXPECT_EQ((*loop)->Submit(MakeRequest("a", 4, 4)).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE((*loop)->Stats().ready);
}

TEST_F(EngineLoopTest, ACancelledRequestGivesEverythingBack) {
  Start(/*deliver=*/false);
  const auto key = loop_->Submit(MakeRequest("a", 4, 400));
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(*loop_->Find("a"), *key);
  WaitFor([this] { return workers_.num_plans() >= 2; });
  loop_->Finish(*key, FinishReason::kCancelled);
  WaitFor([this] { return !loop_->Find("a").ok(); });
  EXPECT_EQ(NumUnheldBlocks(), kNumBlocks);
  // What was in flight comes in, and the workers hear of the release.
  for (int i = 0; i < 2; ++i) {
    loop_->OnStepResult(*workers_.TakeResult());
  }
  WaitUntilTidy();
}

TEST_F(EngineLoopTest, AStormOfCancelsLeavesEveryBlockFree) {
  Start();
  std::vector<RequestKey> keys;
  for (int i = 0; i < 200; ++i) {
    const auto key = loop_->Submit(
        MakeRequest(absl::StrCat("r", i), 1 + i % 50, 1 + i % 300, i));
    ASSERT_TRUE(key.ok()) << key.status();
    keys.push_back(*key);
    if (i % 3 > 0) loop_->Finish(keys[i / 2], FinishReason::kCancelled);
  }
  for (RequestKey key : keys) loop_->Finish(key, FinishReason::kCancelled);
  WaitUntilTidy();
}

TEST_F(EngineLoopTest, AnIdMayBeUsedAgainOnceItsEndWasHeard) {
  Start();
  for (int i = 0; i < 50; ++i) {
    const auto key = loop_->Submit(MakeRequest("same", 4, 3));
    ASSERT_TRUE(key.ok()) << key.status();
    ear_.WaitForEnd(*key);
  }
}

TEST_F(EngineLoopTest, ExplainsWhoRunsWhoWaitsAndWhoHasEnded) {
  options_.max_num_seqs = 1;
  Start(/*deliver=*/false);  // nobody gets further
  const auto runs = loop_->Submit(MakeRequest("runs", 8, 10));
  WaitFor([this] { return workers_.num_plans() >= 2; });
  const auto waits = loop_->Submit(MakeRequest("waits", 8, 10, 2));
  ASSERT_TRUE(runs.ok() && waits.ok());
  // The next decision is made when a step is known.
  loop_->OnStepResult(*workers_.TakeResult());
  WaitFor([this] {
    const auto timeline = loop_->Explain("waits");
    return timeline.ok() && !timeline->intervals.empty() &&
           timeline->intervals.back().why.reason != WaitReason::kNextStep;
  });
  EXPECT_EQ(loop_->Explain("runs")->state, TimelineState::kRunning);
  const auto timeline = loop_->Explain("waits");
  EXPECT_EQ(timeline->state, TimelineState::kWaiting);
  EXPECT_EQ(timeline->intervals.back().why.reason, WaitReason::kNoSlot);
  EXPECT_EQ(timeline->waited(), timeline->end - timeline->arrival);
  EXPECT_EQ(loop_->Explain("stranger").status().code(),
            absl::StatusCode::kNotFound);
  loop_->Finish(*waits, FinishReason::kCancelled);
  WaitFor([this] {
    return loop_->Explain("waits")->state == TimelineState::kEnded;
  });
  loop_->Stop();
  EXPECT_EQ(loop_->Explain("runs").status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(EngineLoopTest, ADeadlineWakesAnIdleLoop) {
  Start(/*deliver=*/false);  // results never come
  EngineRequest request = MakeRequest("a", 4, 400);
  request.deadline = clock_.Now() + absl::Milliseconds(20);
  const auto key = loop_->Submit(request);
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(ear_.WaitForEnd(*key).status.code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(clock_.Now(), request.deadline);
}

TEST_F(EngineLoopTest, ALostGroupIsHeardAndTheNextOneServes) {
  Start(/*deliver=*/false);
  const auto lost = loop_->Submit(MakeRequest("a", 4, 400));
  ASSERT_TRUE(lost.ok());
  WaitFor([this] { return workers_.num_plans() >= 2; });
  loop_->OnGroupLost(Epoch(1), absl::UnavailableError("rank 1 hung up"));
  EXPECT_EQ(ear_.WaitForEnd(*lost).status.message(),
            "worker lost: rank 1 hung up; retry");
  WaitFor([this] { return !loop_->Stats().ready; });
  EXPECT_EQ(loop_->Submit(MakeRequest("b", 4, 4)).status().code(),
            absl::StatusCode::kUnavailable);

  workers_.DeliverTo(loop_.get());
  loop_->OnGroupReady(workers_.Begin(2));
  WaitFor([this] { return loop_->Stats().ready; });
  const EngineRequest request = MakeRequest("b", 4, 4);
  const auto key = loop_->Submit(request);
  ASSERT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(ear_.WaitForEnd(*key).tokens,
            SimulatedStream(request.prompt, request.sampling));
}

// Workers whose epoch the engine may end.
class EndableWorkers final : public Dispatcher {
 public:
  explicit EndableWorkers(SimulatedWorkerGroup* workers) : workers_(workers) {}

  void Send(const StepPlan& plan) override { workers_->Send(plan); }
  void Close(Epoch group_epoch, const absl::Status& cause) override {
    absl::MutexLock lock(&mutex_);
    ends_.emplace_back(group_epoch, cause);
  }

  std::pair<Epoch, absl::Status> WaitForEnd() {
    absl::MutexLock lock(&mutex_);
    const auto ended = [&] { return !ends_.empty(); };
    mutex_.Await(absl::Condition(&ended));
    EXPECT_EQ(ends_.size(), 1u);
    return ends_.front();
  }

 private:
  SimulatedWorkerGroup* const workers_;
  absl::Mutex mutex_;
  std::vector<std::pair<Epoch, absl::Status>> ends_;
};

// Takes what is stranded to its grave.
class LastWatcher final : public EngineWatcher {
 public:
  void OnReadiness(int32_t, bool) override {}
  void OnProgress(int32_t, absl::Span<const RequestKey>,
                  absl::Span<const RequestEnd>) override {}
  void OnStranded(int32_t, const absl::Status& cause,
                  std::vector<MovedGroup>) override {
    absl::MutexLock lock(&mutex_);
    cause_ = cause;
  }
  void OnStray(int32_t, RequestKey,
               absl::FunctionRef<void(EngineClient*)>) override {}

  absl::Status WaitForCause() {
    absl::MutexLock lock(&mutex_);
    const auto is_told = [&] { return !cause_.ok(); };
    mutex_.Await(absl::Condition(&is_told));
    return cause_;
  }

 private:
  absl::Mutex mutex_;
  absl::Status cause_;
};

TEST_F(EngineLoopTest, AResultOfNoStepEndsTheEpochAndIsTheCauseThatAllHear) {
  EndableWorkers workers(&workers_);
  LastWatcher watcher;
  EngineSeat seat;
  seat.watcher = &watcher;
  loop_ = *EngineLoop::Create(options_, &ear_, &clock_, seat);
  loop_->OnGroupReady(workers_.Begin(1));
  loop_->Start(&workers);
  ASSERT_TRUE(loop_->AwaitReady(absl::InfiniteFuture()));
  ASSERT_TRUE(loop_->Submit(MakeRequest("a", 4, 400)).ok());
  WaitFor([this] { return workers_.num_plans() >= 2; });
  StepResult result = *workers_.TakeResult();
  result.tokens.clear();
  loop_->OnStepResult(std::move(result));
  const auto [epoch, cause] = workers.WaitForEnd();
  EXPECT_EQ(epoch, Epoch(1));
  EXPECT_EQ(cause.message(), "step 1 yields 0 tokens for 1 sequences");
  EXPECT_EQ(watcher.WaitForCause(), cause);
  loop_->Stop();
}

TEST_F(EngineLoopTest, WorkersWithAPoolOfNoUseAreGivenUp) {
  EndableWorkers workers(&workers_);
  loop_ = *EngineLoop::Create(options_, &ear_, &clock_);
  GroupReady group = workers_.Begin(3);
  group.block_size = 3;  // of paged memory, a power of two
  loop_->OnGroupReady(group);
  loop_->Start(&workers);
  const auto [epoch, cause] = workers.WaitForEnd();
  EXPECT_EQ(epoch, Epoch(3));
  EXPECT_EQ(cause.code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(loop_->Stats().ready);
  loop_->Stop();
}

TEST_F(EngineLoopTest, DrainLetsRequestsFinishAndTakesNoNewOnes) {
  Start();
  const EngineRequest request = MakeRequest("a", 4, 300);
  const auto key = loop_->Submit(request);
  ASSERT_TRUE(key.ok());
  loop_->Drain(absl::InfiniteFuture());
  EXPECT_EQ(ear_.WaitForEnd(*key).tokens,
            SimulatedStream(request.prompt, request.sampling));
  EXPECT_EQ(loop_->Submit(MakeRequest("b", 4, 4)).status().message(),
            "draining: no new requests are taken");
}

TEST_F(EngineLoopTest, DrainEndsWhatIsNotDoneByItsDeadline) {
  Start(/*deliver=*/false);
  const auto key = loop_->Submit(MakeRequest("a", 4, 300));
  ASSERT_TRUE(key.ok());
  WaitFor([this] { return workers_.num_plans() >= 2; });
  absl::Notification drained;
  std::thread drain([&] {
    loop_->Drain(clock_.Now());
    drained.Notify();
  });
  EXPECT_EQ(ear_.WaitForEnd(*key).status.code(),
            absl::StatusCode::kUnavailable);
  // What was in flight comes in, in its order.
  WaitFor([&] {
    if (auto result = workers_.TakeResult()) loop_->OnStepResult(*result);
    return drained.HasBeenNotified();
  });
  drain.join();
  EXPECT_EQ(NumUnheldBlocks(), kNumBlocks);
}

TEST_F(EngineLoopTest, StopAnswersEveryone) {
  Start(/*deliver=*/false);
  std::vector<RequestKey> keys;
  for (int i = 0; i < 20; ++i) {
    keys.push_back(*loop_->Submit(MakeRequest(absl::StrCat("r", i), 4, 300)));
  }
  loop_->Stop();
  for (RequestKey key : keys) {
    EXPECT_EQ(ear_.WaitForEnd(key).status.code(),
              absl::StatusCode::kUnavailable);
  }
  loop_->Stop();
}

}  // namespace
}  // namespace quire
