// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_wait.h"

#include "absl/functional/function_ref.h"

namespace quire {
namespace {

cudaError_t NapUntilReady(absl::FunctionRef<cudaError_t()> query) {
  cudaError_t error = cudaSuccess;
  WaitByNaps([&] {
    error = query();
    if (error != cudaErrorNotReady) return true;
    cudaGetLastError();  // a launch that follows would report it as its own
    return false;
  });
  return error;
}

}  // namespace

cudaError_t WaitForEvent(cudaEvent_t event, DeviceWait wait) {
  if (wait == DeviceWait::kSpin) return cudaEventSynchronize(event);
  return NapUntilReady([event] { return cudaEventQuery(event); });
}

cudaError_t WaitForStream(cudaStream_t stream, DeviceWait wait) {
  if (wait == DeviceWait::kSpin) return cudaStreamSynchronize(stream);
  return NapUntilReady([stream] { return cudaStreamQuery(stream); });
}

}  // namespace quire
