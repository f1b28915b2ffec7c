// SPDX-License-Identifier: Apache-2.0
#include "worker/service/run_call.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/service/served_worker.h"

namespace quire {
namespace {

using RunCallTest = ServedWorker;

TEST_F(RunCallTest, ALostDeviceIsToldOnceWithItsCause) {
  GetReady();
  std::vector<StepResult> results;
  ASSERT_TRUE(Run({Plan(1)}, &results).ok());
  device()->Break(absl::InternalError("norm: an illegal memory access"));
  const grpc::Status status = Run({Plan(2), Plan(3)}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "step 2: norm: an illegal memory access");
  ASSERT_TRUE(core_.Stop(absl::InfiniteDuration()));
  EXPECT_EQ(lost_devices(),
            std::vector<std::string>{"norm: an illegal memory access"});
}

TEST_F(RunCallTest, APlanThatContradictsIsNoLostDevice) {
  GetReady();
  std::vector<StepResult> results;
  StepPlan wrong = Plan(2);
  wrong.decodes = {SlotId(3)};
  const grpc::Status status = Run({Plan(1), wrong, Plan(3)}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "step 2: slot 3: holds no sequence");
  EXPECT_EQ(results.size(), 1);  // the step before is not lost
  ASSERT_TRUE(core_.Stop(absl::InfiniteDuration()));
  EXPECT_TRUE(lost_devices().empty());
}

TEST_F(RunCallTest, AWrongEpochEndsTheStream) {
  GetReady();
  for (const auto& [coordinator, group] :
       {std::pair<uint64_t, uint64_t>{2, 7}, {3, 6}, {3, 8}}) {
    StepPlan plan = Plan(1);
    plan.identity.coordinator_epoch = Epoch(coordinator);
    plan.identity.group_epoch = Epoch(group);
    std::vector<StepResult> results;
    EXPECT_EQ(Run({plan}, &results).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_TRUE(results.empty());
  }
}

TEST_F(RunCallTest, AGapEndsTheStreamAfterTheResultsBeforeIt) {
  GetReady();
  std::vector<StepResult> results;
  const grpc::Status status = Run({Plan(1), Plan(2), Plan(4)}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(status.error_message(), "step 4 came where 3 was due");
  EXPECT_EQ(results.size(), 2);
  // The stream may be opened again where it was left.
  results.clear();
  EXPECT_TRUE(Run({Plan(3)}, &results).ok());
  EXPECT_EQ(results.size(), 1);
}

TEST_F(RunCallTest, AContradictionIsInternalAndEndsTheEpoch) {
  GetReady();
  StepPlan plan = Plan(2);
  plan.identity.step_id = StepId(1);
  plan.decodes = {SlotId(2)};
  std::vector<StepResult> results;
  const grpc::Status status = Run({plan}, &results);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "step 1: slot 2: holds no sequence");
  EXPECT_EQ(Run({Plan(1)}, &results).error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(results.empty());
  EXPECT_EQ(core_.last_step(), StepId(0));
}

TEST_F(RunCallTest, AMalformedPlanIsInternalAndNamesTheField) {
  GetReady();
  grpc::ClientContext context;
  const auto stream = stub_->Run(&context);
  v1::StepPlan message;
  message.add_appended_blocks(1);
  ASSERT_TRUE(stream->Write(message));
  v1::StepResult result;
  EXPECT_FALSE(stream->Read(&result));
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(),
            "appended_blocks: 1 numbers are not a multiple of 2");
}

TEST_F(RunCallTest, ASecondStreamIsRefusedWhileTheFirstIsOpen) {
  GetReady();
  grpc::ClientContext context;
  const auto first = stub_->Run(&context);
  v1::StepPlan message;
  EncodeStepPlan(Plan(1), &message);
  ASSERT_TRUE(first->Write(message));
  v1::StepResult result;
  ASSERT_TRUE(first->Read(&result));
  std::vector<StepResult> results;
  EXPECT_EQ(Run({Plan(2)}, &results).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EncodeStepPlan(Plan(2), &message);
  ASSERT_TRUE(first->Write(message));
  ASSERT_TRUE(first->Read(&result));
  EXPECT_EQ(result.step_id(), 2);
  context.TryCancel();
  EXPECT_EQ(first->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

// The seat is given back before the client hears of the end.
TEST_F(RunCallTest, WhoHearsOfTheEndMayOpenTheNextStream) {
  GetReady();
  std::vector<StepResult> results;
  for (uint64_t step = 1; step <= 9; ++step) {
    const grpc::Status status = Run({Plan(step)}, &results);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_EQ(results.size(), 9);
}

TEST_F(RunCallTest, AStreamWithoutAPlanEndsWell) {
  GetReady();
  std::vector<StepResult> results;
  EXPECT_TRUE(Run({}, &results).ok());
  EXPECT_TRUE(results.empty());
  EXPECT_EQ(core_.last_step(), StepId(0));
}

TEST_F(RunCallTest, AMalformedPlanEndsTheStreamAfterTheResultsBeforeIt) {
  GetReady();
  grpc::ClientContext context;
  const auto stream = stub_->Run(&context);
  v1::StepPlan message;
  EncodeStepPlan(Plan(1), &message);
  ASSERT_TRUE(stream->Write(message));
  v1::StepResult result;
  ASSERT_TRUE(stream->Read(&result));
  EXPECT_EQ(result.step_id(), 1);
  message.Clear();
  message.add_appended_blocks(1);
  ASSERT_TRUE(stream->Write(message));
  EXPECT_FALSE(stream->Read(&result));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(core_.last_step(), StepId(1));
}

}  // namespace
}  // namespace quire
