// SPDX-License-Identifier: Apache-2.0
#include "worker/executor/lost_device.h"

#include "common/status_macros.h"
#include "gtest/gtest.h"
#include "tests/worker/fakes/fake_backend.h"

namespace quire {
namespace {

TEST(LostDeviceTest, AFailureWhoseDeviceLivesIsNone) {
  FakeBackend device;
  const absl::Status missing = absl::NotFoundError("no such file");
  EXPECT_EQ(MarkIfLost(missing, &device), missing);
  EXPECT_TRUE(LostDevice(MarkIfLost(missing, &device)).ok());
}

TEST(LostDeviceTest, AFailureWhoseDeviceIsLostTellsBothCauses) {
  FakeBackend device;
  device.Break(absl::InternalError("a kernel: an illegal memory access"));
  const auto load = [&]() -> absl::Status {
    QUIRE_RETURN_IF_ERROR(
        MarkIfLost(absl::UnavailableError("a peer left"), &device));
    return absl::OkStatus();
  };
  const absl::Status status = load();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "a peer left");
  EXPECT_EQ(LostDevice(status),
            absl::InternalError("a kernel: an illegal memory access"));
}

TEST(LostDeviceTest, SuccessAsksNothingOfTheDevice) {
  FakeBackend device;
  device.Break(absl::InternalError("gone"));
  EXPECT_TRUE(MarkIfLost(absl::OkStatus(), &device).ok());
  EXPECT_TRUE(LostDevice(absl::OkStatus()).ok());
}

}  // namespace
}  // namespace quire
