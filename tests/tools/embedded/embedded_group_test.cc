// SPDX-License-Identifier: Apache-2.0
#include "tools/embedded/embedded_group.h"

#include <string>

#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/runfiles.h"

namespace quire {
namespace {

using ::testing::HasSubstr;

// Keeps what it hears. Thread-safe.
class Listener final : public DispatchListener {
 public:
  void OnGroupReady(const GroupReady&) override {}
  void OnStepResult(StepResult result) override {
    absl::MutexLock lock(&mutex_);
    results_.push_back(std::move(result));
  }
  void OnGroupLost(Epoch, const absl::Status& cause) override {
    absl::MutexLock lock(&mutex_);
    cause_ = cause;
    is_lost_ = true;
  }
  StepResult AwaitResult() {
    absl::MutexLock lock(&mutex_);
    const auto there = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return !results_.empty();
    };
    mutex_.Await(absl::Condition(&there));
    return results_.back();
  }
  absl::Status AwaitLoss() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&is_lost_));
    return cause_;
  }

 private:
  absl::Mutex mutex_;
  std::vector<StepResult> results_ ABSL_GUARDED_BY(mutex_);
  absl::Status cause_ ABSL_GUARDED_BY(mutex_);
  bool is_lost_ ABSL_GUARDED_BY(mutex_) = false;
};

class EmbeddedGroupTest : public testing::Test {
 protected:
  EmbeddedGroupTest() {
    options_.load.model_path = ModelFolder("tools/demo_model/model");
    options_.load.world_size = 2;
    options_.load.block_size = 16;
    options_.load.limits.max_num_batched_tokens = 32;
    options_.load.limits.max_num_seqs = 2;
    options_.load.limits.max_model_len = 64;
    options_.device.num_threads = 1;
    options_.num_blocks_override = 8;
  }

  absl::StatusOr<std::unique_ptr<EmbeddedGroup>> Create() {
    return EmbeddedGroup::Create(options_, nullptr, &listener_, &clock_);
  }

  static StepPlan Plan(uint64_t step) {
    StepPlan plan;
    plan.identity = {Epoch(1), Epoch(1), StepId(step)};
    return plan;
  }

  RealClock clock_;
  Listener listener_;
  EmbeddedGroupOptions options_;
};

TEST_F(EmbeddedGroupTest, RanksAnswerAPlanTogether) {
  const auto group = Create();
  ASSERT_TRUE(group.ok()) << group.status();
  EXPECT_EQ((*group)->ready().num_blocks, 8);
  EXPECT_GT((*group)->ready().prefill_tokens_per_second, 0);
  (*group)->Send(Plan(1));
  EXPECT_EQ(listener_.AwaitResult().identity.step_id, StepId(1));
}

TEST_F(EmbeddedGroupTest, APlanOutOfOrderEndsTheGroup) {
  const auto group = Create();
  ASSERT_TRUE(group.ok()) << group.status();
  (*group)->Send(Plan(5));
  EXPECT_FALSE(listener_.AwaitLoss().ok());
  (*group)->Send(Plan(6));  // dropped
}

TEST_F(EmbeddedGroupTest, WhatIsWrongIsToldBeforeAnythingRuns) {
  options_.load.world_size = 0;
  EXPECT_THAT(std::string(Create().status().message()),
              HasSubstr("tensor_parallel_size=0"));
  options_.load.world_size = 1;
  options_.load.model_path = "/nowhere";
  EXPECT_THAT(std::string(Create().status().message()), HasSubstr("/nowhere"));
  options_.load.world_size = 2;
  EXPECT_THAT(std::string(Create().status().message()), HasSubstr("rank 0: "));
  options_.device.device = "tpu";
  EXPECT_THAT(std::string(Create().status().message()), HasSubstr("tpu"));
  options_.device.device = "cuda:0";
  EXPECT_THAT(std::string(Create().status().message()),
              HasSubstr("a process for each"));
}

}  // namespace
}  // namespace quire
