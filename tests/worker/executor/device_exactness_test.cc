// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/executor/device_exactness.h"

#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(DeviceExactnessTest, NeitherBatchNorPreemptionShowsOnTheCpu) {
  DeviceOptions device;
  device.num_threads = 1;
  EXPECT_TRUE(NeitherBatchNorPreemptionShows(device));
}

}  // namespace
}  // namespace quire
