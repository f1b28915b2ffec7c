// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_COPY_BLOCKS_H_
#define KERNELS_CUDA_COPY_BLOCKS_H_

#include "cuda_runtime.h"
#include "kernels/attention.h"

namespace quire {

// Copies within device memory: one launch for up to 500 pairs, which travel as
// the kernel's parameter. Fast where block_bytes is a multiple of 16. REQUIRES:
// the pools are 16-byte aligned.
cudaError_t LaunchCopyBlocksCuda(const BlockCopyParams& params,
                                 cudaStream_t stream);

// The same where one of the pools is pinned host memory: a few thread blocks
// fill the link, and leave the device to others. REQUIRES: block_bytes is a
// multiple of 16.
cudaError_t LaunchSwapBlocksCuda(const BlockCopyParams& params,
                                 cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_COPY_BLOCKS_H_
