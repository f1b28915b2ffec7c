// SPDX-License-Identifier: Apache-2.0
//
// Which GPUs this project's kernels are compiled for.
#ifndef KERNELS_CUDA_COMPUTE_CAPABILITY_H_
#define KERNELS_CUDA_COMPUTE_CAPABILITY_H_

#include <string>

#include "absl/status/status.h"

namespace quire {

// Unavailable, with the GPU's name, unless kernels compiled for sm_80 or sm_90a
// run on one of compute capability `major`.`minor`.
absl::Status CheckComputeCapability(const std::string& name, int major,
                                    int minor);

}  // namespace quire

#endif  // KERNELS_CUDA_COMPUTE_CAPABILITY_H_
