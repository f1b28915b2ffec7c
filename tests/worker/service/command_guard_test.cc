// SPDX-License-Identifier: Apache-2.0
#include "worker/service/command_guard.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

StepIdentity Step(uint64_t coordinator, uint64_t group, uint64_t step) {
  return {Epoch(coordinator), Epoch(group), StepId(step)};
}

TEST(CommandGuardTest, RefusesEverythingBeforeJoining) {
  CommandGuard guard;
  EXPECT_TRUE(absl::IsFailedPrecondition(guard.CheckEpochs(Epoch(), Epoch())));
  EXPECT_TRUE(absl::IsFailedPrecondition(guard.AcceptStep(Step(0, 0, 1))));
}

TEST(CommandGuardTest, StepsComeOneByOneFromOne) {
  CommandGuard guard;
  guard.Join(Epoch(3), Epoch(7));
  EXPECT_EQ(guard.AcceptStep(Step(3, 7, 2)).message(),
            "step 2 came where 1 was due");
  EXPECT_TRUE(guard.AcceptStep(Step(3, 7, 1)).ok());
  EXPECT_FALSE(guard.AcceptStep(Step(3, 7, 1)).ok());  // repeated
  EXPECT_FALSE(guard.AcceptStep(Step(3, 7, 3)).ok());  // one is missing
  EXPECT_TRUE(guard.AcceptStep(Step(3, 7, 2)).ok());
}

TEST(CommandGuardTest, AnOldCoordinatorAndAnotherGroupAreRefused) {
  CommandGuard guard;
  guard.Join(Epoch(3), Epoch(7));
  EXPECT_EQ(guard.CheckEpochs(Epoch(2), Epoch(7)).message(),
            "coordinator epoch 2 is over: this worker obeys 3");
  EXPECT_EQ(guard.CheckEpochs(Epoch(3), Epoch(8)).message(),
            "group epoch 8 is not this worker's, which is 7");
  EXPECT_FALSE(guard.CheckEpochs(Epoch(3), Epoch(6)).ok());
}

TEST(CommandGuardTest, ANewerCoordinatorReplacesTheOld) {
  CommandGuard guard;
  guard.Join(Epoch(3), Epoch(7));
  EXPECT_TRUE(guard.AcceptStep(Step(3, 7, 1)).ok());
  EXPECT_TRUE(guard.AcceptStep(Step(4, 7, 2)).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(guard.AcceptStep(Step(3, 7, 3))));
  // One from another group does not count, however new.
  EXPECT_FALSE(guard.CheckEpochs(Epoch(9), Epoch(1)).ok());
  EXPECT_TRUE(guard.AcceptStep(Step(4, 7, 3)).ok());
}

}  // namespace
}  // namespace quire
