// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/fakes/fake_backend.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(FakeBackendTest, ALateDeviceRunsNothingBeforeTheHostWaits) {
  FakeBackend device;
  device.set_late();
  int from = 1, to = 0;
  ASSERT_TRUE(device.CopyToDevice(&from, &to, sizeof(to)).ok());
  ASSERT_TRUE(device.Mark(0).ok());
  EXPECT_EQ(to, 0);
  from = 2;  // too early: the copy has not run
  ASSERT_TRUE(device.WaitForMark(0).ok());
  EXPECT_EQ(to, 2);
}

TEST(FakeBackendTest, ALateDeviceRunsUpToTheMarkThatIsWaitedFor) {
  FakeBackend device;
  device.set_late();
  int num_run = 0;
  for (int32_t mark = 0; mark < 3; ++mark) {
    device.Enqueue([&] { ++num_run; });
    ASSERT_TRUE(device.Mark(mark).ok());
  }
  ASSERT_TRUE(device.WaitForMark(1).ok());
  EXPECT_EQ(num_run, 2);
  ASSERT_TRUE(device.WaitForMark(0).ok());
  EXPECT_EQ(num_run, 2);
  ASSERT_TRUE(device.Synchronize().ok());
  EXPECT_EQ(num_run, 3);
}

}  // namespace
}  // namespace quire
