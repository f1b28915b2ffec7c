// SPDX-License-Identifier: Apache-2.0
//
// Commands in and out of order, by direct calls.
#include "worker/service/worker_core.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"
#include "tests/worker/fakes/fake_model.h"
#include "worker/collective/solo.h"

namespace quire {
namespace {

constexpr Epoch kCoordinator(3);
constexpr Epoch kGroup(7);

class WorkerCoreTest : public testing::Test {
 protected:
  void Join() {
    core_.Join(kCoordinator, kGroup, /*rank=*/0, /*world_size=*/1,
               [this](const LoadSpec& spec, const LoadObserver&)
                   -> absl::StatusOr<std::unique_ptr<Executor>> {
                 if (spec.model_path != "model") {
                   return absl::NotFoundError("no such model");
                 }
                 ExecutorParts parts;
                 auto backend = std::make_unique<FakeBackend>();
                 device_ = backend.get();
                 if (is_asynchronous_) backend->set_asynchronous();
                 if (breaks_while_loading_) {
                   device_->Break(absl::InternalError("gone"));
                 }
                 parts.backend = std::move(backend);
                 parts.collective = std::make_unique<SoloCollective>();
                 parts.model = std::make_unique<FakeModel>(
                     parts.collective.get(), /*vocab_size=*/50, spec.limits);
                 parts.limits = spec.limits;
                 parts.block_size = spec.block_size;
                 parts.vocab_size = 50;
                 return Executor::Create(std::move(parts), &clock_);
               });
  }

  template <typename Start>
  absl::Status Await(const Start& start) {
    absl::Notification done;
    absl::Status status;
    start([&](absl::Status answer) {
      status = std::move(answer);
      done.Notify();
    });
    done.WaitForNotification();
    return status;
  }

  absl::Status Load(const std::string& path = "model", Epoch group = kGroup) {
    LoadSpec spec;
    spec.model_path = path;
    spec.block_size = 4;
    spec.limits.max_num_batched_tokens = 32;
    spec.limits.max_num_seqs = 4;
    spec.limits.max_model_len = 64;
    return Await([&](std::function<void(absl::Status)> done) {
      core_.Load(
          kCoordinator, group, spec, [](const char*, int64_t, int64_t) {},
          std::move(done));
    });
  }
  absl::Status Profile() {
    return Await([&](std::function<void(absl::Status)> done) {
      core_.Profile(kCoordinator, kGroup, /*memory_utilization=*/0.75,
                    [=](const absl::StatusOr<MemoryProfile>& profile) {
                      done(profile.status());
                    });
    });
  }
  absl::Status AllocateKv() {
    return Await([&](std::function<void(absl::Status)> done) {
      core_.AllocateKv(kCoordinator, kGroup, /*num_blocks=*/8,
                       /*num_host_blocks=*/0, std::move(done));
    });
  }
  absl::Status Step(uint64_t step_id, StepPlan plan = {}) {
    plan.identity = {.coordinator_epoch = kCoordinator,
                     .group_epoch = kGroup,
                     .step_id = StepId(step_id)};
    return Await([&](std::function<void(absl::Status)> done) {
      core_.Step(&plan, clock_.Now(), &result_, std::move(done));
    });
  }

  // One prompt of two tokens, which samples.
  static StepPlan PromptPlan() {
    StepPlan plan;
    AdmittedSlot admitted;
    admitted.slot = SlotId(0);
    admitted.sequence_id = SequenceId(1);
    admitted.tokens = {5, 6};
    admitted.num_prompt_tokens = 2;
    admitted.cache = std::vector<BlockId>{BlockId(3)};
    plan.admitted.push_back(admitted);
    plan.chunks.push_back({SlotId(0), 2, /*sample=*/true});
    return plan;
  }

  RealClock clock_;
  bool is_asynchronous_ = false;
  StepResult result_;
  bool breaks_while_loading_ = false;
  FakeBackend* device_ = nullptr;  // the executor's
  // The core's threads', written before the answer that follows.
  std::vector<std::string> lost_devices_;
  WorkerCore core_{&clock_, [this](const absl::Status& cause) {
                     lost_devices_.push_back(std::string(cause.message()));
                   }};
};

TEST_F(WorkerCoreTest, CommandsInOrderLeadToSteps) {
  Join();
  EXPECT_FALSE(core_.is_ready());
  EXPECT_TRUE(Load().ok());
  EXPECT_TRUE(AllocateKv().ok());
  EXPECT_TRUE(core_.is_ready());
  EXPECT_TRUE(Step(1, PromptPlan()).ok());
  EXPECT_EQ(result_.tokens.size(), 1);
  EXPECT_EQ(core_.last_step(), StepId(1));
}

TEST_F(WorkerCoreTest, ACommandThatComesBeforeTheRegistrationsAnswerWaits) {
  absl::Notification done;
  absl::Status status = absl::UnknownError("no answer");
  LoadSpec spec;
  spec.model_path = "missing";
  core_.Load(
      kCoordinator, kGroup, spec, [](const char*, int64_t, int64_t) {},
      [&](absl::Status answer) {
        status = std::move(answer);
        done.Notify();
      });
  Join();
  done.WaitForNotification();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST_F(WorkerCoreTest, ACommandThatWaitsForASeatIsRefusedWithIt) {
  absl::Notification done;
  absl::Status status = absl::UnknownError("no answer");
  core_.Load(
      kCoordinator, kGroup, LoadSpec(), [](const char*, int64_t, int64_t) {},
      [&](absl::Status answer) {
        status = std::move(answer);
        done.Notify();
      });
  core_.Refuse();
  done.WaitForNotification();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(Profile().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(WorkerCoreTest, AnotherEpochOrOrderIsRefused) {
  Join();
  EXPECT_EQ(Load("model", Epoch(8)).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(AllocateKv().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(Load().ok());
  EXPECT_FALSE(Load().ok());  // a model is loaded once
  EXPECT_TRUE(AllocateKv().ok());
  EXPECT_EQ(AllocateKv().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Profile().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(WorkerCoreTest, OnceAStepHasFailedEveryLaterOneDoes) {
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(AllocateKv().ok());
  StepPlan wrong;
  wrong.decodes = {SlotId(2)};  // nobody sits there
  const absl::Status first = Step(1, wrong);
  EXPECT_FALSE(first.ok());
  EXPECT_EQ(Step(2).code(), first.code());
  EXPECT_EQ(core_.last_step(), StepId(0));
}

TEST_F(WorkerCoreTest, ADeviceLostWhileLoadingIsToldBeforeTheAnswer) {
  Join();
  EXPECT_EQ(Load("missing").code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(lost_devices_.empty());
  breaks_while_loading_ = true;
  EXPECT_EQ(Load().message(), "gone");
  EXPECT_EQ(lost_devices_, std::vector<std::string>{"gone"});
}

TEST_F(WorkerCoreTest, ADeviceLostWhileItIsMeasuredIsToldBeforeTheAnswer) {
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(Profile().ok());
  EXPECT_TRUE(lost_devices_.empty());
  device_->Break(absl::InternalError("gone"));
  EXPECT_FALSE(Profile().ok());
  EXPECT_EQ(lost_devices_, std::vector<std::string>{"gone"});
}

TEST_F(WorkerCoreTest, ADeviceLostWhileTheCacheIsMadeIsToldBeforeTheAnswer) {
  Join();
  ASSERT_TRUE(Load().ok());
  device_->Break(absl::InternalError("gone"));
  EXPECT_FALSE(AllocateKv().ok());
  EXPECT_FALSE(core_.is_ready());
  EXPECT_EQ(lost_devices_, std::vector<std::string>{"gone"});
}

TEST_F(WorkerCoreTest, ACacheThatIsRefusedIsNoLostDevice) {
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(AllocateKv().ok());
  EXPECT_FALSE(AllocateKv().ok());
  EXPECT_TRUE(core_.is_ready());
  EXPECT_TRUE(lost_devices_.empty());
}

TEST_F(WorkerCoreTest, StepsThatRunAheadAreToldInOrder) {
  is_asynchronous_ = true;
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(AllocateKv().ok());
  constexpr int kSteps = 40;
  std::vector<StepPlan> plans(kSteps, PromptPlan());
  std::vector<StepResult> results(kSteps);
  std::vector<uint64_t> told;
  absl::Notification all;
  for (int i = 0; i < kSteps; ++i) {
    plans[i].identity = {.coordinator_epoch = kCoordinator,
                         .group_epoch = kGroup,
                         .step_id = StepId(i + 1)};
    if (i > 0) plans[i].released = {SlotId(0)};
    core_.Step(&plans[i], clock_.Now(), &results[i],
               [&, i](absl::Status status) {
                 EXPECT_TRUE(status.ok()) << status;
                 told.push_back(results[i].identity.step_id.value());
                 if (told.size() == kSteps) all.Notify();
               });
  }
  all.WaitForNotification();
  for (int i = 0; i < kSteps; ++i) {
    EXPECT_EQ(told[i], i + 1);
    EXPECT_EQ(results[i].tokens.size(), 1u);
  }
  EXPECT_EQ(core_.last_step(), StepId(kSteps));
}

TEST_F(WorkerCoreTest, ACommandThatComesWhileStepsRunChangesNothing) {
  is_asynchronous_ = true;
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(AllocateKv().ok());
  constexpr int kSteps = 20;
  std::vector<StepPlan> plans(kSteps, PromptPlan());
  std::vector<StepResult> results(kSteps);
  absl::BlockingCounter left(kSteps);
  for (int i = 0; i < kSteps; ++i) {
    plans[i].identity = {.coordinator_epoch = kCoordinator,
                         .group_epoch = kGroup,
                         .step_id = StepId(i + 1)};
    if (i > 0) plans[i].released = {SlotId(0)};
    core_.Step(&plans[i], clock_.Now(), &results[i], [&](absl::Status status) {
      EXPECT_TRUE(status.ok()) << status;
      left.DecrementCount();
    });
    for (const absl::Status& status : {Load(), Profile(), AllocateKv()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    }
  }
  left.Wait();
  EXPECT_TRUE(lost_devices_.empty());
}

TEST_F(WorkerCoreTest, AStepThatFailsIsToldAfterThoseBeforeIt) {
  is_asynchronous_ = true;
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(AllocateKv().ok());
  StepPlan wrong;
  wrong.decodes = {SlotId(2)};  // nobody sits there
  std::vector<StepPlan> plans = {PromptPlan(), wrong, {}};
  std::vector<StepResult> results(3);
  std::vector<bool> told;
  absl::Notification all;
  for (int i = 0; i < 3; ++i) {
    plans[i].identity = {.coordinator_epoch = kCoordinator,
                         .group_epoch = kGroup,
                         .step_id = StepId(i + 1)};
    core_.Step(&plans[i], clock_.Now(), &results[i], [&](absl::Status status) {
      told.push_back(status.ok());
      if (told.size() == 3) all.Notify();
    });
  }
  all.WaitForNotification();
  EXPECT_EQ(told, std::vector<bool>({true, false, false}));
}

TEST_F(WorkerCoreTest, AGapInTheStepsIsRefused) {
  Join();
  ASSERT_TRUE(Load().ok());
  ASSERT_TRUE(AllocateKv().ok());
  EXPECT_TRUE(Step(1).ok());
  EXPECT_EQ(Step(3).code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace quire
