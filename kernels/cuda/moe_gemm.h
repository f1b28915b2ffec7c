// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_MOE_GEMM_H_
#define KERNELS_CUDA_MOE_GEMM_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/dtype.h"

namespace quire {

// ExpertGemmParams (kernels/moe.h) with the weight's memory.
struct MoeGemmParams {
  const void* x;                // [*, k]
  const int32_t* row_tokens;    // [num_rows] or null
  const void* w;                // [num_experts, n, k], dense
  const int32_t* expert_start;  // [num_experts + 1]
  void* y;                      // [num_rows, n]
  int64_t n, k;
  int32_t num_experts;
  int32_t num_rows;
  DType dtype;  // of x and w
  DType y_dtype;
};

// Tensor cores for bfloat16 rows of a multiple of 8 elements that are aligned
// to 16 bytes, else fused multiply-adds of floats. Either adds up k in order,
// so that a row's result depends on that row and its expert alone.
cudaError_t LaunchMoeGemmCuda(const MoeGemmParams& params, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_MOE_GEMM_H_
