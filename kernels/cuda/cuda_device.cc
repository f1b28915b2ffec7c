// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cuda_device.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/compute_capability.h"
#include "kernels/cuda/cuda_status.h"

namespace quire {

absl::StatusOr<int> OpenCudaDevice(int device) {
  int num_devices = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDeviceCount(&num_devices), "counting GPUs");
  if (device >= num_devices) {
    return absl::UnavailableError(
        absl::StrCat("GPU ", device, " is wanted and this process sees ",
                     num_devices, " (CUDA_VISIBLE_DEVICES)"));
  }
  QUIRE_RETURN_IF_CUDA_ERROR(cudaSetDevice(device), "choosing the GPU");
  cudaDeviceProp properties;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, device),
                             "asking the GPU");
  QUIRE_RETURN_IF_ERROR(CheckComputeCapability(
      properties.name, properties.major, properties.minor));
  return properties.multiProcessorCount;
}

}  // namespace quire
