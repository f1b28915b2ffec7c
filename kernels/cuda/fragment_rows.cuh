// SPDX-License-Identifier: Apache-2.0
//
// Fragments of a matrix product as they leave it: words of two bfloat16, moved
// among the four lanes that hold eight neighbours of a row.
#ifndef KERNELS_CUDA_FRAGMENT_ROWS_CUH_
#define KERNELS_CUDA_FRAGMENT_ROWS_CUH_

#include <cuda_bf16.h>

#include <cstdint>

namespace quire::fragment {

__device__ __forceinline__ uint32_t Pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ __forceinline__ float2 Unpack(uint32_t word) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&word));
}

// Among each four lanes: word i of lane j becomes word j of lane i.
__device__ __forceinline__ void TransposeFour(uint32_t (&words)[4]) {
  constexpr uint32_t kAll = 0xffffffffu;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool is_upper = threadIdx.x & step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const uint32_t sent = is_upper ? words[i] : words[i + step];
      const uint32_t got = __shfl_xor_sync(kAll, sent, step);
      words[i] = is_upper ? got : words[i];
      words[i + step] = is_upper ? words[i + step] : got;
    }
  }
}

// Errs by some 2^-21 of the result, beside what `gate` and `up` do.
__device__ __forceinline__ float SiluMul(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

}  // namespace quire::fragment

#endif  // KERNELS_CUDA_FRAGMENT_ROWS_CUH_
