// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_ROPE_KV_H_
#define KERNELS_CUDA_ROPE_KV_H_

#include "cuda_runtime.h"
#include "kernels/attention.h"

namespace quire {

// Rotates queries in place and writes rotated keys and values, in one launch.
// `is_known`: positions and slot_mapping were there before an earlier kernel
// began, so that they are read while the one before still runs.
cudaError_t LaunchRopeWriteKvCuda(const RopeWriteKvParams& params,
                                  bool is_known, cudaStream_t stream);

}  // namespace quire

#endif  // KERNELS_CUDA_ROPE_KV_H_
