// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_CUDA_STATUS_H_
#define KERNELS_CUDA_CUDA_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cuda_runtime_api.h"

namespace quire {

// ResourceExhausted when there was not enough memory, Unavailable without a
// usable device or driver, else Internal: the context may be lost, and the
// process should end.
inline absl::Status CudaStatus(cudaError_t error, const char* operation) {
  if (error == cudaSuccess) return absl::OkStatus();
  absl::StatusCode code = absl::StatusCode::kInternal;
  switch (error) {
    case cudaErrorMemoryAllocation:
      code = absl::StatusCode::kResourceExhausted;
      break;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      code = absl::StatusCode::kUnavailable;
      break;
    case cudaErrorNotSupported:
      code = absl::StatusCode::kUnimplemented;
      break;
    default:
      break;
  }
  return absl::Status(
      code, absl::StrCat(operation, ": ", cudaGetErrorString(error), " (",
                         cudaGetErrorName(error), ")"));
}

}  // namespace quire

#define QUIRE_RETURN_IF_CUDA_ERROR(expression, operation)      \
  do {                                                         \
    const cudaError_t quire_cuda_error = (expression);         \
    if (quire_cuda_error != cudaSuccess) {                     \
      return ::quire::CudaStatus(quire_cuda_error, operation); \
    }                                                          \
  } while (false)

#endif  // KERNELS_CUDA_CUDA_STATUS_H_
