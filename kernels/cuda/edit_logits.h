// SPDX-License-Identifier: Apache-2.0
//
// Biases, penalties and masks written into the logits where lists name them,
// taken back once the token is known; and that token counted. One block a row:
// what a row pays for is its own lists, or its shard where allowed ids restrict
// that; rows without any pay nothing.
#ifndef KERNELS_CUDA_EDIT_LOGITS_H_
#define KERNELS_CUDA_EDIT_LOGITS_H_

#include "cuda_runtime.h"
#include "kernels/shaped_choice.h"

namespace quire {

cudaError_t LaunchEditLogitsCuda(const EditLogitsParams& params,
                                 cudaStream_t stream);

// After all shards' edits. No rows that are whole.
cudaError_t LaunchMaskLogitsCuda(const MaskLogitsParams& params,
                                 cudaStream_t stream);

// After the rows' tokens are chosen. Logits are as they were, bitwise, where
// they were saved.
cudaError_t LaunchFinishEditsCuda(const EditLogitsParams& params,
                                  cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_EDIT_LOGITS_H_
