// SPDX-License-Identifier: Apache-2.0
//
// A kernel that lets those after it begin long before it ends, as a matrix
// product does.
#ifndef TESTS_KERNELS_CUDA_SLOW_START_H_
#define TESTS_KERNELS_CUDA_SLOW_START_H_

#include <cstdint>

#include "cuda_runtime_api.h"

namespace quire {

cudaError_t LaunchSlowStart(int64_t nanoseconds, cudaStream_t stream);

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_SLOW_START_H_
