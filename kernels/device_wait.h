// SPDX-License-Identifier: Apache-2.0
//
// How host threads wait for a device.
#ifndef KERNELS_DEVICE_WAIT_H_
#define KERNELS_DEVICE_WAIT_H_

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace quire {

// Sleeping until the device's interrupt is no choice: on virtual machines that
// woke a thread later than naps do.
enum class DeviceWait {
  kSpin,   // looks all the time: learns at once, and keeps a core busy
  kSleep,  // looks between naps: learns some 50 us later, for a part of a core
};

// Of "spin" or "sleep"; else InvalidArgument.
absl::StatusOr<DeviceWait> ParseDeviceWait(const std::string& name);

// Rests the calling thread for 50 us and what its timers are late by. On two
// cores of a virtual machine that made 122 us, and 13 % of a core for one nap
// after the other.
void Nap();

// Naps until `is_over` returns true, which it is asked first.
void WaitByNaps(absl::FunctionRef<bool()> is_over,
                absl::FunctionRef<void()> nap = Nap);

}  // namespace quire

#endif  // KERNELS_DEVICE_WAIT_H_
