// SPDX-License-Identifier: Apache-2.0
//
// The dispatcher against two workers that speak real gRPC in this process.
#include "coordinator/dispatch/grpc_dispatcher.h"

#include <atomic>
#include <memory>
#include <thread>

#include "coordinator/dispatch/worker_channel.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/dispatch/fake_worker.h"
#include "tests/coordinator/dispatch/recording_listener.h"

namespace quire {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr Epoch kCoordinator(7);
constexpr int32_t kNumBlocks = 256;  // of 16 tokens

class GrpcDispatcherTest : public testing::Test {
 protected:
  GrpcDispatcherTest() {
    FakeWorkerOptions options;
    options.num_blocks = kNumBlocks;
    for (auto& worker : workers_) {
      worker = std::make_unique<FakeWorker>(options);
    }
    StepWatchdog::Options watchdog;
    watchdog.fixed = absl::Seconds(2);
    dispatcher_ = std::make_unique<GrpcDispatcher>(watchdog, &clock_,
                                                   &listener_, nullptr);
  }

  void Open(uint64_t group_epoch) {
    GroupReady group;
    group.coordinator_epoch = kCoordinator;
    group.group_epoch = Epoch(group_epoch);
    group.num_blocks = kNumBlocks;
    std::vector<GrpcDispatcher::Rank> ranks;
    for (const auto& worker : workers_) {
      ranks.push_back(
          {worker->address(), MakeWorkerChannel(worker->address())});
    }
    dispatcher_->Open(group, std::move(ranks), absl::ZeroDuration());
  }

  // One sequence, which has all blocks: its prompt in step 1, then one token a
  // step.
  void Send(uint64_t step, uint64_t group_epoch = 1) {
    StepPlan plan;
    plan.identity = {kCoordinator, Epoch(group_epoch), StepId(step)};
    if (step == 1) {
      AdmittedSlot slot;
      slot.tokens = {1, 2, 3};
      slot.num_prompt_tokens = 3;
      slot.sampling.temperature = 0;
      std::vector<BlockId> blocks;
      for (int32_t block = 0; block < kNumBlocks; ++block) {
        blocks.push_back(BlockId(block));
      }
      slot.cache = std::move(blocks);
      plan.admitted.push_back(slot);
      plan.chunks.push_back({SlotId(0), 3, true});
    } else {
      plan.decodes.push_back(SlotId(0));
    }
    dispatcher_->Send(plan);
  }

  SimulatedClock clock_;
  RecordingListener listener_;
  std::unique_ptr<FakeWorker> workers_[2];
  std::unique_ptr<GrpcDispatcher> dispatcher_;
};

TEST_F(GrpcDispatcherTest, MergesTheRanksAnswersInStepOrder) {
  Open(1);
  for (uint64_t step = 1; step <= 5; ++step) Send(step);  // all ahead
  EXPECT_THAT(listener_.Await(6), ElementsAre("ready 1", "step 1", "step 2",
                                              "step 3", "step 4", "step 5"));
  for (const StepResult& result : listener_.results()) {
    EXPECT_EQ(result.identity.coordinator_epoch, kCoordinator);
    EXPECT_EQ(result.tokens.size(), 1u);
  }
  EXPECT_EQ(workers_[0]->num_answers(), 5);
  EXPECT_EQ(workers_[1]->num_answers(), 5);
}

TEST_F(GrpcDispatcherTest, TokensThatDifferEndTheEpoch) {
  Open(1);
  Send(1);
  listener_.Await(2);
  workers_[1]->CorruptTokenDigest();
  Send(2);
  EXPECT_THAT(listener_.Await(3), ElementsAre("ready 1", "step 1", "lost 1"));
  EXPECT_THAT(std::string(listener_.causes()[0].message()),
              HasSubstr("disagree on the tokens of step 2"));
}

TEST_F(GrpcDispatcherTest, TablesThatDifferEndTheEpoch) {
  Open(1);
  workers_[1]->CorruptTableDigest();
  Send(1);
  EXPECT_THAT(listener_.Await(2), ElementsAre("ready 1", "lost 1"));
  EXPECT_THAT(std::string(listener_.causes()[0].message()),
              HasSubstr("disagree on the block tables of step 1"));
}

TEST_F(GrpcDispatcherTest, AnswerOfAnotherEpochEndsIt) {
  Open(1);
  workers_[0]->AnswerForOldEpoch();
  workers_[1]->AnswerForOldEpoch();
  Send(1);
  EXPECT_THAT(listener_.Await(2), ElementsAre("ready 1", "lost 1"));
  EXPECT_EQ(listener_.causes()[0].code(), absl::StatusCode::kInternal);
}

TEST_F(GrpcDispatcherTest, BrokenStreamNamesItsRankOnce) {
  Open(1);
  Send(1);
  listener_.Await(2);
  workers_[1] = nullptr;  // the process is gone
  EXPECT_THAT(listener_.Await(3), ElementsAre("ready 1", "step 1", "lost 1"));
  EXPECT_THAT(std::string(listener_.causes()[0].message()),
              HasSubstr("rank 1"));
  Send(2);  // too late: dropped
  dispatcher_->Close(Epoch(1), absl::UnavailableError("again"));
  dispatcher_ = nullptr;
  EXPECT_EQ(listener_.Await(3).size(), 3u);
}

TEST_F(GrpcDispatcherTest, WorkersRefusalReachesTheListener) {
  Open(1);
  Send(1);
  listener_.Await(2);
  Send(3);  // a gap: the rank refuses it
  EXPECT_THAT(listener_.Await(3), ElementsAre("ready 1", "step 1", "lost 1"));
  EXPECT_EQ(listener_.causes()[0].code(), absl::StatusCode::kInternal);
}

TEST_F(GrpcDispatcherTest, WatchdogNamesTheRankBehind) {
  Open(1);
  Send(1);
  listener_.Await(2);
  workers_[1]->StopAnswering();
  Send(2);
  workers_[1]->AwaitPlans(2);
  clock_.Advance(absl::Seconds(2));
  dispatcher_->CheckWatchdog();
  clock_.Advance(absl::Milliseconds(1));
  dispatcher_->CheckWatchdog();
  clock_.Advance(absl::Milliseconds(500));
  dispatcher_->CheckWatchdog();
  EXPECT_THAT(listener_.Await(3), ElementsAre("ready 1", "step 1", "lost 1"));
  const std::string cause(listener_.causes()[0].message());
  EXPECT_THAT(cause, HasSubstr("has not answered step 2 within 2s"));
}

// The listener may take its time with a result, and the next may be there when
// it returns: who looks at the watchdog must not be held up by that.
TEST_F(GrpcDispatcherTest, WatchdogBringsNoResults) {
  constexpr uint64_t kNumSteps = 4000;
  Open(1);
  std::atomic<bool> is_over = false;
  std::thread watcher([&] {
    while (!is_over) dispatcher_->CheckWatchdog();
  });
  const std::thread::id watcher_id = watcher.get_id();
  for (uint64_t step = 1; step <= kNumSteps; ++step) Send(step);
  listener_.Await(1 + kNumSteps);
  is_over = true;
  watcher.join();
  EXPECT_THAT(listener_.result_threads(), Not(Contains(watcher_id)));
}

TEST_F(GrpcDispatcherTest, NextEpochRunsAfterALoss) {
  Open(1);
  dispatcher_->Close(Epoch(1), absl::UnavailableError("told so"));
  EXPECT_THAT(listener_.Await(2), ElementsAre("ready 1", "lost 1"));
  Open(2);
  Send(1, /*group_epoch=*/1);  // of the old one: dropped
  Send(1, /*group_epoch=*/2);
  EXPECT_THAT(listener_.Await(4),
              ElementsAre("ready 1", "lost 1", "ready 2", "step 1"));
  EXPECT_EQ(listener_.results()[0].identity.group_epoch, Epoch(2));
}

}  // namespace
}  // namespace quire
