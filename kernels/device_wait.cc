// SPDX-License-Identifier: Apache-2.0
#include "kernels/device_wait.h"

#include <time.h>

#include "absl/strings/str_cat.h"

namespace quire {

absl::StatusOr<DeviceWait> ParseDeviceWait(const std::string& name) {
  if (name == "spin") return DeviceWait::kSpin;
  if (name == "sleep") return DeviceWait::kSleep;
  return absl::InvalidArgumentError(
      absl::StrCat("--device_wait=", name, " is neither spin nor sleep"));
}

void Nap() {
  constexpr timespec kNap = {.tv_sec = 0, .tv_nsec = 50'000};
  clock_nanosleep(CLOCK_MONOTONIC, /*flags=*/0, &kNap, /*remain=*/nullptr);
}

void WaitByNaps(absl::FunctionRef<bool()> is_over,
                absl::FunctionRef<void()> nap) {
  while (!is_over()) nap();
}

}  // namespace quire
