// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/own_product.h"

#include "common/status_macros.h"
#include "cuda_runtime_api.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/gated_rows.h"

namespace quire {

absl::StatusOr<int32_t> NumHopperMultiprocessors() {
  int device = 0, major = 0, num_sms = 0;
  QUIRE_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device), "current device");
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
      "device properties");
  if (major != 9) return 0;
  QUIRE_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, device),
      "device properties");
  return num_sms;
}

bool IsOwnProduct(const PlainGemmParams& params) {
  if (params.adds && (params.is_gated || params.y_dtype != params.dtype)) {
    return false;
  }
  return params.dtype == DType::kBf16 && params.k % 8 == 0 &&
         params.x_stride % 8 == 0 &&
         params.n % (params.is_gated ? 2 * kGatedRows : 8) == 0 &&
         params.y_stride % 8 == 0 && IsAligned(params.x) &&
         IsAligned(params.w) && IsAligned(params.y) && IsAligned(params.bias);
}

}  // namespace quire
