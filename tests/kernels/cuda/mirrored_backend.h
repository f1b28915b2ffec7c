// SPDX-License-Identifier: Apache-2.0
//
// Lets suites that were written for host memory run on a GPU.
#ifndef TESTS_KERNELS_CUDA_MIRRORED_BACKEND_H_
#define TESTS_KERNELS_CUDA_MIRRORED_BACKEND_H_

#include <memory>

#include "kernels/backend.h"

namespace quire {

// Operations take host memory: each operand travels to a device buffer of
// exactly its size, so that compute-sanitizer sees an overrun, and what the
// operation may write travels back, so that what it did not write keeps its
// poison. Operands that begin at one address are one. Memory, copies and
// weights are the device's own.
std::unique_ptr<Backend> MirrorHostMemory(std::unique_ptr<Backend> device);

}  // namespace quire

#endif  // TESTS_KERNELS_CUDA_MIRRORED_BACKEND_H_
