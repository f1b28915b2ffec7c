// SPDX-License-Identifier: Apache-2.0
//
// The noise of kernels/sample.h on the device, and the best of noisy tokens.
#ifndef KERNELS_CUDA_GUMBEL_CUH_
#define KERNELS_CUDA_GUMBEL_CUH_

#include <cstdint>

#include "kernels/cuda/vector.cuh"
#include "kernels/philox.h"

namespace quire::sampling {

// The error of FastGumbel and of adding it, generously.
constexpr float kGumbelMargin = 1e-3f;

struct Best {
  float value;
  int32_t id;
};

// The uniform in (0, 1) of a random word: see kernels/cpu/sample.cc.
__device__ __forceinline__ float UniformOf(uint32_t word) {
  const float u = fmaf(static_cast<float>(static_cast<int32_t>(word >> 1)),
                       0x1p-31f, 0x1p-32f);
  return fminf(u, 1.0f - 0x1p-24f);
}

__device__ __forceinline__ float Gumbel(float u) { return -logf(-log1pf(-u)); }

// Gumbel within 3e-4: two logarithms of the special function unit, and a series
// where 1 - u would lose u.
__device__ __forceinline__ float FastGumbel(float u) {
  const float series = u * fmaf(u, fmaf(u, 0.33333333f, 0.5f), 1.0f);
  const float exponential = u < 0x1p-6f ? series : -__logf(1.0f - u);
  return -__logf(exponential);
}

// Whether a token of a group that shares a Philox block may reach `bar` with
// its noise, where no logit of the group is above `max`. Noise is above t only
// where u < exp(-t): one exponential for four tokens, and no logarithm.
__device__ __forceinline__ bool MayReach(const PhiloxWords& words, float max,
                                         float bar) {
  const uint32_t least =
      min(min(words.word[0], words.word[1]), min(words.word[2], words.word[3]));
  const float room =
      max - bar + kGumbelMargin + 1e-6f * (fabsf(max) + fabsf(bar));
  return least >> 1 <= __float2uint_ru(__expf(room) * 0x1.01p31f);
}

__device__ __forceinline__ bool IsBetter(const Best& a, const Best& b) {
  return a.value > b.value ||
         (a.value == b.value && a.id >= 0 && (b.id < 0 || a.id < b.id));
}

// Every thread of the block calls it and gets the best. `shared` holds 32.
__device__ __forceinline__ Best BlockBest(Best best, Best* shared) {
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const Best other = {__shfl_xor_sync(0xffffffffu, best.value, offset),
                        __shfl_xor_sync(0xffffffffu, best.id, offset)};
    if (IsBetter(other, best)) best = other;
  }
  __syncthreads();
  if (threadIdx.x % cuda::kWarp == 0) shared[threadIdx.x / cuda::kWarp] = best;
  __syncthreads();
  for (uint32_t warp = 0; warp < blockDim.x / cuda::kWarp; ++warp) {
    if (IsBetter(shared[warp], best)) best = shared[warp];
  }
  return best;
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_GUMBEL_CUH_
