// SPDX-License-Identifier: Apache-2.0
//
// Waits for what the current device runs, by either way.
#ifndef KERNELS_CUDA_CUDA_WAIT_H_
#define KERNELS_CUDA_CUDA_WAIT_H_

#include "cuda_runtime_api.h"
#include "kernels/device_wait.h"

namespace quire {

// As cudaEventSynchronize() and cudaStreamSynchronize(), and as those, from any
// thread. `event` was created without cudaEventBlockingSync.
cudaError_t WaitForEvent(cudaEvent_t event, DeviceWait wait);
cudaError_t WaitForStream(cudaStream_t stream, DeviceWait wait);

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_WAIT_H_
