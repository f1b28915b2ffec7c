// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/plain_gemm.h"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;

// A block computes kTile x kTile, a thread kPatch x kPatch of them, kDepth of
// the inner dimension at a time.
constexpr int kTile = 64;
constexpr int kPatch = 4;
constexpr int kDepth = 16;
constexpr int kSide = kTile / kPatch;
constexpr int kThreads = kSide * kSide;

// Rows [first, first + kTile) of a, columns [depth, depth + kDepth), with zeros
// beyond its ends, transposed into `tile`.
template <typename T>
__device__ __forceinline__ void LoadTile(const T* a, int64_t stride,
                                         int64_t first, int64_t rows,
                                         int64_t depth, int64_t k,
                                         float (&tile)[kDepth][kTile + 1]) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int row = i / kDepth, column = i % kDepth;
    const bool inside = first + row < rows && depth + column < k;
    tile[column][row] =
        inside ? cuda::ToFloat(a[(first + row) * stride + depth + column])
               : 0.0f;
  }
}

template <typename T, typename Y>
__global__ void __launch_bounds__(kThreads)
    PlainGemmKernel(const __grid_constant__ PlainGemmParams p) {
  __shared__ float x_tile[kDepth][kTile + 1];
  __shared__ float w_tile[kDepth][kTile + 1];
  const int64_t first_n = int64_t{blockIdx.x} * kTile;
  const int64_t first_m = int64_t{blockIdx.y} * kTile;
  const int row = threadIdx.x / kSide * kPatch;
  const int column = threadIdx.x % kSide * kPatch;
  float sum[kPatch][kPatch] = {};
  for (int64_t depth = 0; depth < p.k; depth += kDepth) {
    LoadTile(static_cast<const T*>(p.x), p.x_stride, first_m, p.m, depth, p.k,
             x_tile);
    LoadTile(static_cast<const T*>(p.w), p.k, first_n, p.n, depth, p.k, w_tile);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
#pragma unroll
      for (int i = 0; i < kPatch; ++i) {
#pragma unroll
        for (int j = 0; j < kPatch; ++j) {
          sum[i][j] =
              fmaf(x_tile[d][row + i], w_tile[d][column + j], sum[i][j]);
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kPatch; ++i) {
    const int64_t m = first_m + row + i;
    if (m >= p.m) break;
    for (int j = 0; j < kPatch; ++j) {
      const int64_t n = first_n + column + j;
      if (n >= p.n) break;
      float value = sum[i][j];
      if (p.bias != nullptr) {
        value += cuda::ToFloat(static_cast<const T*>(p.bias)[n]);
      }
      Y* const y = static_cast<Y*>(p.y) + m * p.y_stride + n;
      if (p.adds) value += cuda::ToFloat(*y);
      *y = cuda::FromFloat<Y>(value);
    }
  }
}

}  // namespace

cudaError_t LaunchPlainGemmCuda(const PlainGemmParams& params,
                                cudaStream_t stream) {
  if (params.m <= 0 || params.n <= 0) return cudaSuccess;
  if (params.is_gated) return cudaErrorInvalidValue;
  const int64_t rows = (params.m + kTile - 1) / kTile;
  const int64_t columns = (params.n + kTile - 1) / kTile;
  if (rows > 65535) return cudaErrorInvalidConfiguration;
  const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>(rows));
  if (params.dtype == DType::kF32) {
    PlainGemmKernel<float, float><<<grid, kThreads, 0, stream>>>(params);
  } else if (params.y_dtype == DType::kF32) {
    PlainGemmKernel<Bf16, float><<<grid, kThreads, 0, stream>>>(params);
  } else {
    PlainGemmKernel<Bf16, Bf16><<<grid, kThreads, 0, stream>>>(params);
  }
  return cudaGetLastError();
}

}  // namespace quire
