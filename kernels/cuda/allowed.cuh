// SPDX-License-Identifier: Apache-2.0
//
// Bits that say which tokens may be chosen (kernels/shaped_choice.h).
#ifndef KERNELS_CUDA_ALLOWED_CUH_
#define KERNELS_CUDA_ALLOWED_CUH_

#include <cstdint>

namespace quire::cuda {

// Groups of four columns, the first of the i-th being column_of(i), become
// -infinity where they may not be chosen, unless they are NaN or +infinity,
// which must show. REQUIRES: column_of(i) is a multiple of 4.
template <int kCount, typename ColumnOf>
__device__ __forceinline__ void ApplyAllowed(const uint32_t* allowed,
                                             int num_words,
                                             const ColumnOf& column_of,
                                             float (&raw)[kCount]) {
#pragma unroll
  for (int quad = 0; quad < kCount / 4; ++quad) {
    const int column = column_of(quad);
    const uint32_t bits =
        column / 32 < num_words ? allowed[column / 32] >> (column % 32) : 0u;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float& x = raw[quad * 4 + j];
      if (!(bits >> j & 1) && x < INFINITY) x = -INFINITY;
    }
  }
}

}  // namespace quire::cuda

#endif  // KERNELS_CUDA_ALLOWED_CUH_
