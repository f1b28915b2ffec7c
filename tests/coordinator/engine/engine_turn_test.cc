// SPDX-License-Identifier: Apache-2.0
//
// Who runs the engine loop's turns.
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "coordinator/dispatch/dispatcher.h"
#include "coordinator/engine/engine_loop.h"
#include "gtest/gtest.h"
#include "tests/coordinator/engine/engine_harness.h"
#include "tests/fakes/simulated_worker_group.h"

namespace quire {
namespace {

// Notes which threads send plans, and may hold one up.
class WatchedWorkers final : public Dispatcher {
 public:
  WatchedWorkers(SimulatedWorkerGroup* workers, bool is_reentrant)
      : workers_(workers), is_reentrant_(is_reentrant) {}

  void Send(const StepPlan& plan) override {
    if (absl::Notification* gate = std::exchange(gate_, nullptr)) {
      entered_.Notify();
      gate->WaitForNotification();
    }
    absl::MutexLock lock(&mutex_);
    workers_->Send(plan);
    senders_.push_back(std::this_thread::get_id());
  }
  bool is_reentrant() const override { return is_reentrant_; }

  // The next plan waits for `gate`. REQUIRES: nobody sends one now.
  void HoldUp(absl::Notification* gate) { gate_ = gate; }
  void AwaitHeldUp() { entered_.WaitForNotification(); }

  std::vector<std::thread::id> senders() {
    absl::MutexLock lock(&mutex_);
    return senders_;
  }
  // Of plan `idx`, once there is one.
  std::thread::id AwaitSender(size_t idx) {
    absl::MutexLock lock(&mutex_);
    const auto is_sent = [&] { return senders_.size() > idx; };
    mutex_.Await(absl::Condition(&is_sent));
    return senders_[idx];
  }

 private:
  SimulatedWorkerGroup* const workers_;
  const bool is_reentrant_;
  absl::Notification* gate_ = nullptr;
  absl::Notification entered_;
  absl::Mutex mutex_;
  std::vector<std::thread::id> senders_;
};

// Notes who tells outputs.
class Ear final : public OutputListener {
 public:
  void OnOutputs(std::vector<SequenceOutput> outputs) override {
    absl::MutexLock lock(&mutex_);
    for (const SequenceOutput& output : outputs) {
      tellers_.push_back(std::this_thread::get_id());
      if (output.finish_reason != FinishReason::kNone || !output.status.ok()) {
        ++num_ended_;
      }
    }
  }
  std::vector<std::thread::id> tellers() {
    absl::MutexLock lock(&mutex_);
    return tellers_;
  }
  void AwaitEnds(int num_ended) {
    absl::MutexLock lock(&mutex_);
    const auto have_ended = [&] { return num_ended_ >= num_ended; };
    mutex_.Await(absl::Condition(&have_ended));
  }

 private:
  absl::Mutex mutex_;
  std::vector<std::thread::id> tellers_;
  int num_ended_ = 0;
};

class EngineTurnTest : public testing::Test {
 protected:
  EngineTurnTest()
      : group_({.num_blocks = 400, .block_size = 4, .max_num_seqs = 16}) {
    options_.max_num_seqs = 16;
    options_.max_num_batched_tokens = 64;
    options_.max_model_len = 600;
    options_.block_size = 4;
    options_.run_ahead_depth = 2;
    options_.max_queued_requests = 1000;
  }

  ~EngineTurnTest() override {
    if (loop_ != nullptr) loop_->Stop();
    EXPECT_TRUE(group_.status().ok()) << group_.status();
  }

  void Start(bool is_reentrant) {
    workers_ = std::make_unique<WatchedWorkers>(&group_, is_reentrant);
    loop_ = *EngineLoop::Create(options_, &ear_, &clock_);
    loop_->OnGroupReady(group_.Begin(1));
    loop_->Start(workers_.get());
    ASSERT_TRUE(loop_->AwaitReady(absl::InfiniteFuture()));
  }

  EngineOptions options_;
  RealClock clock_;
  Ear ear_;
  SimulatedWorkerGroup group_;
  std::unique_ptr<WatchedWorkers> workers_;
  std::unique_ptr<EngineLoop> loop_;
};

TEST_F(EngineTurnTest, ALoneRequestIsPlannedBeforeSubmitReturns) {
  Start(/*is_reentrant=*/false);
  ASSERT_TRUE(loop_->Submit(MakeRequest("a", 4, 300)).ok());
  // The prompt and, run ahead, the first decode.
  EXPECT_EQ(workers_->senders(),
            std::vector<std::thread::id>(2, std::this_thread::get_id()));
}

TEST_F(EngineTurnTest, AResultOfFewIsAnsweredWhereItComes) {
  Start(/*is_reentrant=*/true);
  ASSERT_TRUE(loop_->Submit(MakeRequest("a", 4, 300)).ok());
  loop_->OnStepResult(*group_.TakeResult());
  EXPECT_EQ(ear_.tellers(),
            std::vector<std::thread::id>(1, std::this_thread::get_id()));
  EXPECT_EQ(workers_->senders(),
            std::vector<std::thread::id>(3, std::this_thread::get_id()));
}

TEST_F(EngineTurnTest, TheLastOutputIsToldBeforeWorkersHearOfTheEnd) {
  Start(/*is_reentrant=*/true);
  ASSERT_TRUE(loop_->Submit(MakeRequest("a", 4, 1)).ok());
  absl::Notification gate;
  workers_->HoldUp(&gate);
  std::thread bringer([&] { loop_->OnStepResult(*group_.TakeResult()); });
  ear_.AwaitEnds(1);  // while the plan that drops the sequence is held up
  gate.Notify();
  bringer.join();
  EXPECT_EQ(workers_->senders().size(), 2u);
}

TEST_F(EngineTurnTest, ResultsOfWorkersThatCannotWaitAreTheThreads) {
  Start(/*is_reentrant=*/false);
  ASSERT_TRUE(loop_->Submit(MakeRequest("a", 4, 300)).ok());
  loop_->OnStepResult(*group_.TakeResult());
  EXPECT_NE(workers_->AwaitSender(2), std::this_thread::get_id());
}

TEST_F(EngineTurnTest, ResultsOfManyAreTheThreads) {
  Start(/*is_reentrant=*/true);
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(loop_->Submit(MakeRequest(absl::StrCat(i), 4, 300, i)).ok());
  }
  const size_t num_plans = workers_->senders().size();
  loop_->OnStepResult(*group_.TakeResult());
  EXPECT_NE(workers_->AwaitSender(num_plans), std::this_thread::get_id());
}

TEST_F(EngineTurnTest, StopWaitsForATurnThatAnotherRuns) {
  Start(/*is_reentrant=*/true);
  absl::Notification gate;
  workers_->HoldUp(&gate);
  std::atomic<bool> is_submitted = false;
  std::thread client([&] {
    ASSERT_TRUE(loop_->Submit(MakeRequest("a", 64, 300)).ok());
    is_submitted = true;
  });
  workers_->AwaitHeldUp();
  std::thread stop([&] {
    loop_->Stop();
    EXPECT_FALSE(workers_->senders().empty());
  });
  gate.Notify();
  stop.join();
  client.join();
  EXPECT_TRUE(is_submitted);
  ear_.AwaitEnds(1);
}

// The thread sleeps until what it knew of before the turn that it did not run.
TEST_F(EngineTurnTest, ADeadlineThatAnotherBringsWakesTheThread) {
  Start(/*is_reentrant=*/true);
  EngineRequest late = MakeRequest("late", 4, 300);
  late.deadline = clock_.Now() + absl::Hours(1);
  ASSERT_TRUE(loop_->Submit(std::move(late)).ok());
  for (int i = 0; i < 3; ++i) loop_->OnStepResult(*group_.TakeResult());
  EngineRequest soon = MakeRequest("soon", 4, 300);
  soon.deadline = clock_.Now() + absl::Milliseconds(20);
  ASSERT_TRUE(loop_->Submit(std::move(soon)).ok());
  ear_.AwaitEnds(1);
  EXPECT_TRUE(loop_->Find("late").ok());
}

// Clients, their leaving, deadlines and results from a thread of their own.
TEST_F(EngineTurnTest, AllEndsWhoeverRunsTheTurns) {
  Start(/*is_reentrant=*/true);
  std::atomic<bool> is_over = false;
  std::thread bringer([&] {
    while (!is_over) {
      if (auto result = group_.TakeResult()) {
        loop_->OnStepResult(*std::move(result));
      } else {
        std::this_thread::yield();
      }
    }
  });
  constexpr int kClients = 3;
  constexpr int kRequests = 60;
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([this, client] {
      for (int i = 0; i < kRequests; ++i) {
        EngineRequest request = MakeRequest(absl::StrCat(client, "/", i),
                                            1 + i % 40, 1 + i % 7, i);
        if (i % 5 == 1) request.deadline = clock_.Now() + absl::Seconds(100);
        const std::string id = request.request_id;
        const auto key = loop_->Submit(std::move(request));
        ASSERT_TRUE(key.ok()) << key.status();
        if (i % 4 == 3) loop_->Finish(*key, FinishReason::kCancelled);
        while (loop_->Find(id).ok()) std::this_thread::yield();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  loop_->Drain(absl::InfiniteFuture());
  is_over = true;
  bringer.join();
  const EngineStats stats = loop_->Stats();
  EXPECT_EQ(stats.num_free_blocks + stats.num_cached_blocks, 400);
}

}  // namespace
}  // namespace quire
