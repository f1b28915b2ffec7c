// SPDX-License-Identifier: Apache-2.0
//
// What builds without --config=cuda have.
#include "absl/status/status.h"
#include "kernels/cuda/cuda_backend.h"

namespace quire {

bool HasCudaBackend() { return false; }

absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(
    const CudaBackendOptions&) {
  return absl::UnimplementedError(
      "this build has no CUDA backend; build with --config=cuda");
}

}  // namespace quire
