// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_SWAP_BLOCKS_H_
#define KERNELS_CUDA_SWAP_BLOCKS_H_

#include "cuda_runtime_api.h"
#include "kernels/attention.h"

namespace quire {

// Copies blocks between the device's cache and the host's pool. Long runs of
// neighbours go by the copy engines, all in one call to the driver; short ones
// by a kernel, as each copy costs an engine some 0.5 us.
cudaError_t SwapBlocksCuda(const BlockCopyParams& params,
                           cudaMemcpyKind direction, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_SWAP_BLOCKS_H_
