// SPDX-License-Identifier: Apache-2.0
#include "coordinator/dispatch/run_stream.h"

#include <grpcpp/channel.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/wire/step_plan_wire.h"
#include "coordinator/dispatch/worker_channel.h"
#include "gtest/gtest.h"
#include "tests/coordinator/dispatch/fake_worker.h"
#include "tests/fakes/closed_port.h"

namespace quire {
namespace {

// Thread-safe.
class Listener final : public RunStreamListener {
 public:
  void OnResult(int32_t rank, StepResult result) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(has_ended_) << "a result after the last word";
    EXPECT_EQ(rank, kRank);
    steps_.push_back(result.identity.step_id.value());
  }
  void OnStreamEnd(int32_t rank, const absl::Status& status) override {
    absl::MutexLock lock(&mutex_);
    EXPECT_FALSE(has_ended_) << "two last words";
    EXPECT_EQ(rank, kRank);
    has_ended_ = true;
    end_ = status;
  }

  std::vector<uint64_t> AwaitSteps(size_t number) const {
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return steps_.size() >= number || has_ended_;
    };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&there));
    return steps_;
  }
  absl::Status AwaitEnd() const {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&has_ended_));
    return end_;
  }

  static constexpr int32_t kRank = 3;

 private:
  mutable absl::Mutex mutex_;
  std::vector<uint64_t> steps_ ABSL_GUARDED_BY(mutex_);
  bool has_ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
};

// A plan that computes nothing.
std::shared_ptr<const v1::StepPlan> Plan(uint64_t step) {
  StepPlan plan;
  plan.identity = {Epoch(1), Epoch(1), StepId(step)};
  auto message = std::make_shared<v1::StepPlan>();
  EncodeStepPlan(plan, message.get());
  return message;
}

// A rank and the way to it. The stream gives its share of the channel up before
// its last word; by this one it is not the last, which no thread of gRPC's may
// give up.
struct Rank {
  FakeWorker worker;
  const std::shared_ptr<grpc::Channel> channel =
      MakeWorkerChannel(worker.address());

  std::shared_ptr<RunStream> Open(Listener* listener) {
    return RunStream::Open(channel, Listener::kRank, listener);
  }
};

TEST(RunStreamTest, PlansSentAtOnceAreAnsweredInOrder) {
  Rank rank;
  Listener listener;
  const auto stream = rank.Open(&listener);
  std::vector<uint64_t> expected;
  for (uint64_t step = 1; step <= 50; ++step) {
    stream->Send(Plan(step));
    expected.push_back(step);
  }
  EXPECT_EQ(listener.AwaitSteps(50), expected);
  stream->Cancel();
  EXPECT_EQ(listener.AwaitEnd().code(), absl::StatusCode::kCancelled);
}

TEST(RunStreamTest, TheWorkersLastWordIsToldAfterTheResultsBeforeIt) {
  Rank rank;
  Listener listener;
  const auto stream = rank.Open(&listener);
  stream->Send(Plan(1));
  stream->Send(Plan(2));
  stream->Send(Plan(4));  // the simulated worker refuses a gap
  const absl::Status end = listener.AwaitEnd();
  EXPECT_FALSE(end.ok());
  EXPECT_NE(end.code(), absl::StatusCode::kCancelled) << end;
  EXPECT_EQ(listener.AwaitSteps(2), (std::vector<uint64_t>{1, 2}));
}

TEST(RunStreamTest, WhatIsSentOrCancelledAfterTheEndIsNothing) {
  Rank rank;
  Listener listener;
  const auto stream = rank.Open(&listener);
  stream->Cancel();
  EXPECT_FALSE(listener.AwaitEnd().ok());
  for (uint64_t step = 1; step <= 3; ++step) stream->Send(Plan(step));
  stream->Cancel();
  EXPECT_EQ(rank.worker.num_answers(), 0);
}

TEST(RunStreamTest, WhoeverOpenedItNeedNotKeepIt) {
  Rank rank;
  Listener listener;
  rank.Open(&listener)->Send(Plan(1));
  EXPECT_EQ(listener.AwaitSteps(1), (std::vector<uint64_t>{1}));
  rank.worker.EndRun(absl::UnavailableError("shutting down"));
  EXPECT_FALSE(listener.AwaitEnd().ok());
}

TEST(RunStreamTest, AWorkerThatIsNotThereIsUnavailable) {
  const ClosedPort nobody;
  const auto channel = MakeWorkerChannel(nobody.address());
  Listener listener;
  const auto stream = RunStream::Open(channel, Listener::kRank, &listener);
  stream->Send(Plan(1));
  EXPECT_EQ(listener.AwaitEnd().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace quire
