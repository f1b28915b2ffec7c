// SPDX-License-Identifier: Apache-2.0
#include "kernels/device_wait.h"

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

// Works only while who waits for it naps.
class NappedOnDevice {
 public:
  explicit NappedOnDevice(int num_naps) : naps_left_(num_naps) {}

  void Wait() {
    WaitByNaps(
        [this] {
          ++num_looks_;
          return naps_left_ == 0;
        },
        [this] {
          ++num_naps_;
          --naps_left_;
        });
  }

  int num_looks() const { return num_looks_; }
  int num_naps() const { return num_naps_; }

 private:
  int naps_left_;
  int num_looks_ = 0;
  int num_naps_ = 0;
};

TEST(DeviceWaitTest, WhoSleepsLooksBeforeEachNapAndAfterTheLast) {
  NappedOnDevice device(/*num_naps=*/3);
  device.Wait();
  EXPECT_EQ(device.num_naps(), 3);
  EXPECT_EQ(device.num_looks(), 4);
}

TEST(DeviceWaitTest, WhatIsOverCostsNoNap) {
  NappedOnDevice device(/*num_naps=*/0);
  device.Wait();
  EXPECT_EQ(device.num_naps(), 0);
  EXPECT_EQ(device.num_looks(), 1);
}

TEST(DeviceWaitTest, NapsOfTheThreadsOwnEnd) {
  int num_looks = 0;
  WaitByNaps([&num_looks] { return ++num_looks == 3; });
  EXPECT_EQ(num_looks, 3);
}

TEST(DeviceWaitTest, EitherWayHasAName) {
  EXPECT_EQ(*ParseDeviceWait("spin"), DeviceWait::kSpin);
  EXPECT_EQ(*ParseDeviceWait("sleep"), DeviceWait::kSleep);
  for (const char* name : {"", "Spin", "yield", "sleep "}) {
    const absl::Status status = ParseDeviceWait(name).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(name));
  }
}

}  // namespace
}  // namespace quire
