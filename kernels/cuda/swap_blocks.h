// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_SWAP_BLOCKS_H_
#define KERNELS_CUDA_SWAP_BLOCKS_H_

#include "cuda_runtime_api.h"
#include "kernels/attention.h"

namespace quire {

// Copies blocks between the device's cache and the host's pool by the copy
// engines: runs of neighbours as one copy, all in one call to the driver.
cudaError_t SwapBlocksCuda(const BlockCopyParams& params,
                           cudaMemcpyKind direction, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_SWAP_BLOCKS_H_
