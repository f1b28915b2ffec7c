// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_PLAIN_GEMM_H_
#define KERNELS_CUDA_PLAIN_GEMM_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/dtype.h"

namespace quire {

// y = x W^T + bias in fused multiply-adds of floats, for sizes and addresses
// that the library's products do not take. Any strides, no alignment beyond an
// element's. A row's result depends on that row alone.
struct PlainGemmParams {
  const void* x;     // [m, k]
  int64_t x_stride;  // elements from row to row
  const void* w;     // [n, k], dense
  const void* bias;  // [n] in `dtype`, or null
  void* y;           // [m, n]
  int64_t y_stride;
  int64_t m, n, k;
  DType dtype;  // of x, w and bias
  DType y_dtype;
};

cudaError_t LaunchPlainGemmCuda(const PlainGemmParams& params,
                                cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_PLAIN_GEMM_H_
