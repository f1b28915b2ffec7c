// SPDX-License-Identifier: Apache-2.0
#include "worker/collective/solo.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(SoloCollectiveTest, KeepsItsOwnValues) {
  SoloCollective solo;
  EXPECT_EQ(solo.world_size(), 1);
  float value = 3;
  EXPECT_TRUE(solo.AllReduceSum(&value, 1, DType::kF32).ok());
  EXPECT_EQ(value, 3);
  float gathered = 0;
  EXPECT_TRUE(solo.AllGather(&value, &gathered, sizeof(value)).ok());
  EXPECT_EQ(gathered, 3);
  EXPECT_TRUE(solo.AllGather(&gathered, &gathered, sizeof(value)).ok());
  EXPECT_EQ(gathered, 3);
  EXPECT_TRUE(solo.Barrier().ok());
}

}  // namespace
}  // namespace quire
