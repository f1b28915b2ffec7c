// SPDX-License-Identifier: Apache-2.0
//
// The composition alone: a group that forms over fake workers drives its
// engine, and what it cannot be made of is said. The clock stands still: the
// workers send no heartbeats, and nobody misses them.
#include "coordinator/replica_group.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/dispatch/fake_worker.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

class NoListener final : public OutputListener {
 public:
  void OnOutputs(std::vector<SequenceOutput>) override {}
};

// Keeps an engine from being ready, until the release.
class SlowWatcher final : public EngineWatcher {
 public:
  void OnReadiness(int32_t, bool) override {
    absl::MutexLock lock(&mutex_);
    is_asked_ = true;
    mutex_.Await(absl::Condition(&is_released_));
  }
  void OnProgress(int32_t, absl::Span<const RequestKey>,
                  absl::Span<const RequestEnd>) override {}
  void OnStranded(int32_t, const absl::Status&,
                  std::vector<MovedGroup>) override {}
  void OnStray(int32_t, RequestKey,
               absl::FunctionRef<void(EngineClient*)>) override {}

  void AwaitAsked() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_asked_));
  }
  void Release() {
    absl::MutexLock lock(&mutex_);
    is_released_ = true;
  }

 private:
  absl::Mutex mutex_;
  bool is_asked_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_released_ ABSL_GUARDED_BY(mutex_) = false;
};

class ReplicaGroupTest : public testing::Test {
 protected:
  ReplicaGroupTest() {
    options_.controller.group = 1;
    options_.controller.num_groups = 2;
    options_.launch.block_size = options_.engine.block_size;
  }

  absl::StatusOr<std::unique_ptr<ReplicaGroup>> Create() {
    GroupController::Callbacks callbacks;
    callbacks.on_ready = [this](const LaunchedGroup&) {
      absl::MutexLock lock(&mutex_);
      is_ready_ = true;
    };
    callbacks.on_lost = [this](const absl::Status& cause, bool) {
      absl::MutexLock lock(&mutex_);
      cause_ = cause;
    };
    return ReplicaGroup::Create(options_,
                                {.listener = &listener_,
                                 .registry = &registry_,
                                 .board = &board_,
                                 .clock = &clock_},
                                std::move(callbacks));
  }

  // `worker` joins as group 1's only rank, which makes it whole.
  void Form(const FakeWorker& worker, ReplicaGroup* group) {
    WorkerOffer offer;
    offer.address = worker.address();
    offer.instance_id = kInstance;
    offer.device = "cpu";
    offer.group = 1;
    const auto registration = registry_.Register(offer);
    ASSERT_TRUE(registration.ok() && registration->formed.has_value());
    group->Launch(*registration->formed);
  }

  void AwaitReady() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_ready_));
  }
  // Lets time pass, in which the worker is heard, until the group is either.
  void PassTimeUntilReadyOrLost() {
    const auto is_told = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return is_ready_ || !cause_.ok();
    };
    absl::MutexLock lock(&mutex_);
    while (!mutex_.AwaitWithTimeout(absl::Condition(&is_told),
                                    absl::Milliseconds(1))) {
      clock_.Advance(absl::Milliseconds(100));
      // Refused, which is no matter, once the epoch is over.
      registry_.Heartbeat(kInstance, Epoch(7), Epoch(1), StepId(0))
          .IgnoreError();
    }
  }

  static constexpr uint64_t kInstance = 5;

  absl::Mutex mutex_;
  bool is_ready_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status cause_ ABSL_GUARDED_BY(mutex_);  // of the loss

  SimulatedClock clock_;
  NoListener listener_;
  WorkerRegistry registry_{
      {.num_groups = 2, .world_size = 1}, Epoch(7), &clock_};
  RendezvousBoard board_;
  ReplicaGroup::Options options_;
};

TEST_F(ReplicaGroupTest, AFormedGroupMakesItsEngineReadyWithItsPartOfMemory) {
  FakeWorker worker;
  auto group = Create();
  ASSERT_TRUE(group.ok()) << group.status();
  (*group)->Start();
  Form(worker, group->get());
  AwaitReady();
  EXPECT_TRUE((*group)->engine()->AwaitReady(absl::InfinitePast()));
  // The fake has memory for 64 blocks; the other group gets half.
  EXPECT_EQ((*group)->engine()->Info().num_blocks, 32);
  EXPECT_EQ(worker.num_allocated_blocks(), 32);
}

TEST_F(ReplicaGroupTest, AnEngineThatDoesNotTakeItInTimeEndsItsEpoch) {
  SlowWatcher watcher;
  options_.seat.watcher = &watcher;
  FakeWorker worker;
  auto group = Create();
  ASSERT_TRUE(group.ok()) << group.status();
  (*group)->Start();
  Form(worker, group->get());
  watcher.AwaitAsked();
  PassTimeUntilReadyOrLost();
  watcher.Release();
  absl::MutexLock lock(&mutex_);
  EXPECT_FALSE(is_ready_);
  EXPECT_TRUE(absl::IsUnavailable(cause_)) << cause_;
  EXPECT_THAT(std::string(cause_.message()),
              HasSubstr("did not take the group within 5s"));
  EXPECT_FALSE(registry_.CheckEpoch(1, Epoch(1)).ok());
}

TEST_F(ReplicaGroupTest, WhatItCannotBeMadeOfIsSaid) {
  options_.record = "/nonexistent/folder/file";
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kUnavailable);
  options_.record.clear();
  options_.engine.kv_manager = "none";
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ReplicaGroupTest, EndsWithoutEverHavingBegun) {
  const auto group = Create();
  EXPECT_TRUE(group.ok()) << group.status();
}

}  // namespace
}  // namespace quire
