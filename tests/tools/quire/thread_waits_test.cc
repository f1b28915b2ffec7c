// SPDX-License-Identifier: Apache-2.0
#include "tools/quire/thread_waits.h"

#include <gtest/gtest.h>
#include <stdlib.h>

namespace quire {
namespace {

class ThreadWaitsTest : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("GOMP_SPINCOUNT");
    unsetenv("OMP_WAIT_POLICY");
  }
};

TEST_F(ThreadWaitsTest, ProgramsThatAreStartedSpinShortly) {
  LimitThreadSpins();
  EXPECT_STREQ(getenv("GOMP_SPINCOUNT"), "5000");
}

TEST_F(ThreadWaitsTest, AUsersChoiceStays) {
  setenv("GOMP_SPINCOUNT", "7", /*overwrite=*/1);
  LimitThreadSpins();
  EXPECT_STREQ(getenv("GOMP_SPINCOUNT"), "7");
}

TEST_F(ThreadWaitsTest, APolicyOfTheUsersStays) {
  setenv("OMP_WAIT_POLICY", "active", /*overwrite=*/1);
  LimitThreadSpins();
  EXPECT_EQ(getenv("GOMP_SPINCOUNT"), nullptr);
}

}  // namespace
}  // namespace quire
