// SPDX-License-Identifier: Apache-2.0
//
// Tells failures of a device that can do nothing any more from all others. An
// executor that could not be made has no device left that could be asked, so
// its status says it.
#ifndef WORKER_EXECUTOR_LOST_DEVICE_H_
#define WORKER_EXECUTOR_LOST_DEVICE_H_

#include "absl/status/status.h"
#include "kernels/backend.h"

namespace quire {

// `status`; if that is a failure and the device is lost, marked with why. Waits
// for what runs on the device. Executor thread only.
absl::Status MarkIfLost(absl::Status status, Backend* device);

// Why the device is lost, if `status` is so marked, else OK.
absl::Status LostDevice(const absl::Status& status);

}  // namespace quire

#endif  // WORKER_EXECUTOR_LOST_DEVICE_H_
