// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_RANK_SUM_H_
#define KERNELS_CUDA_RANK_SUM_H_

#include <cstdint>

#include "cuda_runtime.h"
#include "kernels/dtype.h"

namespace quire {

// out[i] = parts[0][i] + parts[1][i] + ..., in that order, in float and rounded
// once: what tensor-parallel ranks brought to a sum.
// parts: [num_parts, n], out: [n], both in device memory.
cudaError_t LaunchRankSumCuda(const void* parts, int32_t num_parts, void* out,
                              int64_t n, DType dtype, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_RANK_SUM_H_
