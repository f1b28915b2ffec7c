// SPDX-License-Identifier: Apache-2.0
//
// A GPU that this process may use.
#ifndef KERNELS_CUDA_CUDA_DEVICE_H_
#define KERNELS_CUDA_CUDA_DEVICE_H_

#include "absl/status/statusor.h"

namespace quire {

// Makes it the calling thread's; yields its number of multiprocessors.
// Unavailable if there is none of that index, or no kernels for it.
absl::StatusOr<int> OpenCudaDevice(int device);

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_DEVICE_H_
