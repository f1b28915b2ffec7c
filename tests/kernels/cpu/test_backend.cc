// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/test_backend.h"

#include "tests/kernels/cpu/backends.h"

namespace quire {

std::unique_ptr<Backend> MakeTestBackend(DType dtype, int num_threads) {
  return MakeCpuBackend(dtype, num_threads);
}

}  // namespace quire
