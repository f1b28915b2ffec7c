// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/rank_sum.h"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kThreads = 256;

// A thread adds up kCount neighbouring elements at a time.
template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    RankSumKernel(const T* parts, int32_t num_parts, T* out, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * kThreads * kCount;
  int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kCount;
  for (; i < n; i += step) {
    float sum[kCount];
    cuda::Load(parts + i, sum);
    for (int32_t part = 1; part < num_parts; ++part) {
      float x[kCount];
      cuda::Load(parts + part * n + i, x);
#pragma unroll
      for (int j = 0; j < kCount; ++j) sum[j] += x[j];
    }
    cuda::Store(sum, out + i);
  }
}

template <typename T, int kCount>
cudaError_t Launch(const void* parts, int32_t num_parts, void* out, int64_t n,
                   cudaStream_t stream) {
  constexpr int64_t kMaxBlocks = 1 << 12;
  const int64_t blocks = (n + kThreads * kCount - 1) / (kThreads * kCount);
  RankSumKernel<T, kCount>
      <<<static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks),
         kThreads, 0, stream>>>(static_cast<const T*>(parts), num_parts,
                                static_cast<T*>(out), n);
  return cudaGetLastError();
}

template <typename T>
cudaError_t Launch(const void* parts, int32_t num_parts, void* out, int64_t n,
                   cudaStream_t stream) {
  constexpr int kWide = cuda::kLanes<T>;
  return n % kWide == 0 && cuda::IsAligned16(parts) && cuda::IsAligned16(out)
             ? Launch<T, kWide>(parts, num_parts, out, n, stream)
             : Launch<T, 1>(parts, num_parts, out, n, stream);
}

}  // namespace

cudaError_t LaunchRankSumCuda(const void* parts, int32_t num_parts, void* out,
                              int64_t n, DType dtype, cudaStream_t stream) {
  if (n <= 0) return cudaSuccess;
  return dtype == DType::kF32 ? Launch<float>(parts, num_parts, out, n, stream)
                              : Launch<Bf16>(parts, num_parts, out, n, stream);
}

}  // namespace quire
