// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/compute_capability.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

TEST(ComputeCapabilityTest, KernelsRunOnWhatTheyAreCompiledFor) {
  EXPECT_TRUE(CheckComputeCapability("A100", 8, 0).ok());
  EXPECT_TRUE(CheckComputeCapability("L40", 8, 9).ok());
  EXPECT_TRUE(CheckComputeCapability("H200", 9, 0).ok());
}

TEST(ComputeCapabilityTest, OtherGpusAreNamed) {
  const absl::Status older = CheckComputeCapability("T4", 7, 5);
  EXPECT_EQ(older.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(older.message(),
              testing::HasSubstr("T4 has compute capability 7.5; there are "
                                 "kernels for 8.0 to 8.9 and for 9.0"));
  EXPECT_FALSE(CheckComputeCapability("of the same major number", 9, 1).ok());
  EXPECT_FALSE(CheckComputeCapability("B200", 10, 0).ok());
}

}  // namespace
}  // namespace quire
