// SPDX-License-Identifier: Apache-2.0
//
// Epochs from forming to loss, with fake workers and a clock that stands still.
#include "coordinator/cluster/group_controller.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/dispatch/fake_worker.h"
#include "tests/coordinator/dispatch/recording_listener.h"

namespace quire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr Epoch kCoordinator(7);

class GroupControllerTest : public testing::Test {
 protected:
  void Start(bool reform, int32_t num_groups = 1) {
    GroupController::Options options;
    options.reform = reform;
    options.num_groups = num_groups;
    options.pools = &pools_;
    GroupController::Callbacks callbacks;
    callbacks.on_lost = [this](const absl::Status& cause, bool was_ready) {
      absl::MutexLock lock(&mutex_);
      causes_.push_back(cause);
      was_ready_ = was_ready;
      state_at_loss_ = registry_.Groups()[0].state;
    };
    callbacks.on_ready = [this](const LaunchedGroup&) {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&goes_on_));
    };
    callbacks.on_dismissed = [this](const DismissedWorker& worker) {
      absl::MutexLock lock(&mutex_);
      dismissed_.push_back(worker.pid);
    };
    controller_ = std::make_unique<GroupController>(
        options, std::move(callbacks), &registry_, &board_, &launcher_, &clock_,
        nullptr);
    controller_->Start(&engine_, &clock_);
  }

  // `workers` join as instances 10, 11 ... of their epoch, once they may.
  void Join(const std::vector<FakeWorker*>& workers, uint64_t first = 10) {
    while (registry_.Groups()[0].state != GroupState::kJoining) {
      std::this_thread::yield();
    }
    for (FakeWorker* worker : workers) {
      WorkerOffer offer;
      offer.address = worker->address();
      offer.instance_id = first++;
      offer.pid = 1000 + offer.instance_id;
      offer.device = "cpu";
      auto registration = registry_.Register(offer);
      ASSERT_TRUE(registration.ok()) << registration.status();
      if (registration->formed.has_value()) {
        controller_->Launch(*registration->formed);
      }
    }
  }

  // Lets time pass, in which nobody is heard, until the epoch is over.
  void LoseBySilence() {
    const Epoch epoch = registry_.Groups()[0].group_epoch;
    while (registry_.CheckEpoch(0, epoch).ok()) {
      clock_.Advance(absl::Milliseconds(100));
      std::this_thread::yield();
    }
  }

  std::vector<absl::Status> AwaitLosses(size_t num_losses) {
    const auto enough = [this, num_losses]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(
                            mutex_) { return causes_.size() >= num_losses; };
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&enough));
    return causes_;
  }

  static WorkerRegistry::Options TwoRanks() {
    WorkerRegistry::Options options;
    options.world_size = 2;
    return options;
  }

  SimulatedClock clock_;
  RecordingListener engine_;
  WorkerRegistry registry_{TwoRanks(), kCoordinator, &clock_};
  RendezvousBoard board_;
  KnownPools pools_;
  GroupLauncher launcher_{{}};
  absl::Mutex mutex_;
  std::vector<absl::Status> causes_ ABSL_GUARDED_BY(mutex_);
  bool was_ready_ ABSL_GUARDED_BY(mutex_) = false;
  GroupState state_at_loss_ ABSL_GUARDED_BY(mutex_) = GroupState::kJoining;
  bool goes_on_ ABSL_GUARDED_BY(mutex_) = true;  // after a group is ready
  std::vector<uint64_t> dismissed_ ABSL_GUARDED_BY(mutex_);  // pids
  std::unique_ptr<GroupController> controller_;
};

TEST_F(GroupControllerTest, FormedGroupBecomesReady) {
  FakeWorker first, second;
  Start(/*reform=*/false);
  Join({&first, &second});
  EXPECT_THAT(engine_.Await(1), ElementsAre("ready 1"));
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kReady);
  EXPECT_EQ(registry_.Groups()[0].ranks[1].load.phase, "done");
}

TEST_F(GroupControllerTest, FailedLaunchIsToldWithItsCause) {
  FakeWorkerOptions corrupt;
  corrupt.load_status = absl::DataLossError("a shard is truncated");
  FakeWorker first, second(corrupt);
  Start(/*reform=*/false);
  Join({&first, &second});
  const auto causes = AwaitLosses(1);
  EXPECT_EQ(causes[0].code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(was_ready_);
  EXPECT_EQ(registry_.Groups()[0].state, GroupState::kDead);
  EXPECT_THAT(registry_.Groups()[0].detail, HasSubstr("truncated"));
  EXPECT_TRUE(engine_.Await(0).empty());  // it was never ready
}

TEST_F(GroupControllerTest, SilentRankEndsTheEpochOnce) {
  FakeWorker first, second;
  Start(/*reform=*/false);
  Join({&first, &second});
  engine_.Await(1);
  LoseBySilence();
  EXPECT_THAT(engine_.Await(2), ElementsAre("ready 1", "lost 1"));
  const auto causes = AwaitLosses(1);
  EXPECT_THAT(std::string(causes[0].message()), HasSubstr("no heartbeat"));
  EXPECT_TRUE(was_ready_);
  controller_->Stop();
  EXPECT_EQ(AwaitLosses(1).size(), 1u);
}

TEST_F(GroupControllerTest, AllRanksOfALostGroupAreDismissed) {
  FakeWorker first, second;
  Start(/*reform=*/true);
  Join({&first, &second});
  engine_.Await(1);
  LoseBySilence();
  AwaitLosses(1);
  const auto enough = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return dismissed_.size() >= 2;
  };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&enough));
  EXPECT_THAT(dismissed_, ElementsAre(1010, 1011));
}

TEST_F(GroupControllerTest, SilenceWhileLoadingEndsTheLaunch) {
  FakeWorkerOptions hangs;
  hangs.hang_in_load = true;
  FakeWorker first(hangs), second(hangs);
  Start(/*reform=*/false);
  Join({&first, &second});
  first.AwaitLoad();
  LoseBySilence();
  EXPECT_THAT(std::string(AwaitLosses(1)[0].message()),
              HasSubstr("no heartbeat"));
}

TEST_F(GroupControllerTest, LostGroupIsReformedUnderTheNextEpoch) {
  FakeWorker first, second, third, fourth;
  Start(/*reform=*/true);
  Join({&first, &second});
  engine_.Await(1);
  first.EndRun(absl::UnavailableError("hardware"));
  EXPECT_THAT(engine_.Await(2), ElementsAre("ready 1", "lost 1"));
  AwaitLosses(1);
  {
    absl::MutexLock lock(&mutex_);
    EXPECT_EQ(state_at_loss_, GroupState::kDead);  // told before any may join
  }
  Join({&third, &fourth}, /*first=*/20);
  EXPECT_THAT(engine_.Await(3), ElementsAre("ready 1", "lost 1", "ready 2"));
  EXPECT_EQ(registry_.Groups()[0].group_epoch, Epoch(2));
}

TEST_F(GroupControllerTest, AnEpochLostBeforeItsLaunchKeepsNoneWaiting) {
  FakeWorkerOptions hangs;
  hangs.hang_in_load = true;
  FakeWorker first, second, third(hangs), fourth(hangs), fifth, sixth;
  {
    absl::MutexLock lock(&mutex_);
    goes_on_ = false;
  }
  Start(/*reform=*/true);
  Join({&first, &second});
  engine_.Await(1);
  first.EndRun(absl::UnavailableError("hardware"));
  AwaitLosses(1);
  Join({&third, &fourth}, /*first=*/20);  // behind the first
  LoseBySilence();
  AwaitLosses(2);
  Join({&fifth, &sixth}, /*first=*/30);
  {
    absl::MutexLock lock(&mutex_);
    goes_on_ = true;
  }
  EXPECT_THAT(engine_.Await(3), ElementsAre("ready 1", "lost 1", "ready 3"));
}

TEST_F(GroupControllerTest, AnEngineThatGivesUpIsALossAsAnyOther) {
  FakeWorker first, second, third, fourth;
  Start(/*reform=*/true);
  Join({&first, &second});
  engine_.Await(1);
  Dispatcher* dispatcher = controller_->dispatcher();
  dispatcher->Close(Epoch(1), absl::InternalError("no such step"));
  EXPECT_THAT(engine_.Await(2), ElementsAre("ready 1", "lost 1"));
  EXPECT_EQ(AwaitLosses(1)[0].message(), "no such step");
  Join({&third, &fourth}, /*first=*/20);
  EXPECT_THAT(engine_.Await(3), ElementsAre("ready 1", "lost 1", "ready 2"));
}

TEST_F(GroupControllerTest, AReformedGroupGetsThePoolItHadIfThereIsRoom) {
  FakeWorker first, second;
  Start(/*reform=*/true, /*num_groups=*/2);
  Join({&first, &second});
  engine_.Await(1);
  EXPECT_EQ(first.num_allocated_blocks(), 32);  // half of 64
  first.EndRun(absl::UnavailableError("hardware"));
  engine_.Await(2);
  AwaitLosses(1);
  // The other group's pool is in use by now: 40 are left, or 25.
  FakeWorkerOptions used;
  used.kv_bytes = 40'000;
  FakeWorker third(used), fourth(used);
  Join({&third, &fourth}, /*first=*/20);
  engine_.Await(3);
  EXPECT_EQ(third.num_allocated_blocks(), 32);
  third.EndRun(absl::UnavailableError("hardware"));
  engine_.Await(4);
  AwaitLosses(2);
  used.kv_bytes = 25'000;
  FakeWorker fifth(used), sixth(used);
  Join({&fifth, &sixth}, /*first=*/30);
  engine_.Await(5);
  EXPECT_EQ(fifth.num_allocated_blocks(), 25);
}

TEST_F(GroupControllerTest, StopEndsALaunch) {
  FakeWorkerOptions hangs;
  hangs.hang_in_load = true;
  FakeWorker first(hangs), second(hangs);
  Start(/*reform=*/false);
  Join({&first, &second});
  first.AwaitLoad();
  controller_->Stop();
  EXPECT_TRUE(AwaitLosses(0).empty());  // stopping is no loss
}

}  // namespace
}  // namespace quire
