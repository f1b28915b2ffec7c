// SPDX-License-Identifier: Apache-2.0
#include "gtest/gtest.h"
#include "tests/worker/executor/device_exactness.h"

namespace quire {
namespace {

// Steps of decodes are recorded, or not.
class CudaExactnessTest : public testing::TestWithParam<bool> {};

TEST_P(CudaExactnessTest, NeitherBatchNorPreemptionShowsDeterministically) {
  DeviceOptions device;
  device.device = "cuda";
  device.deterministic = true;
  device.enforce_eager = GetParam();
  EXPECT_TRUE(NeitherBatchNorPreemptionShows(device));
}

INSTANTIATE_TEST_SUITE_P(Launches, CudaExactnessTest, testing::Bool(),
                         [](const auto& info) {
                           return info.param ? "Eager" : "Recorded";
                         });

}  // namespace
}  // namespace quire
