// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/test_backend.h"

#include "glog/logging.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/mirrored_backend.h"

namespace quire {

std::unique_ptr<Backend> MakeTestBackend(DType dtype, int) {
  auto backend = CreateCudaBackend({.dtype = dtype, .is_deterministic = true});
  CHECK(backend.ok()) << backend.status();
  return MirrorHostMemory(*std::move(backend));
}

}  // namespace quire
