// SPDX-License-Identifier: Apache-2.0
//
// Words that order as floats do.
#ifndef KERNELS_CUDA_FLOAT_KEY_CUH_
#define KERNELS_CUDA_FLOAT_KEY_CUH_

#include <cstdint>

#include "cuda_runtime.h"

namespace quire::cuda {

// -infinity first; 0 is below every float. -0 is 0.
__device__ __forceinline__ uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float OfKey(uint32_t key) {
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

constexpr uint32_t kNegInfKey = 0x007fffffu;

}  // namespace quire::cuda

#endif  // KERNELS_CUDA_FLOAT_KEY_CUH_
