// SPDX-License-Identifier: Apache-2.0
//
// The backend of NVIDIA GPUs, sm_80 and later.
#ifndef KERNELS_CUDA_CUDA_BACKEND_H_
#define KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/device_wait.h"

namespace quire {

struct CudaBackendOptions {
  DType dtype = DType::kBf16;  // T of every operation
  // Of the sums that row-parallel products hand on; kF32 rounds once less.
  DType partial_dtype = DType::kF32;
  int device = 0;  // index among the devices that the process sees
  // A row's result depends on that row alone, bitwise, as on the CPU. Without
  // it that holds for all operations but products (Gemm) of other numbers of
  // rows: their algorithm is chosen by speed.
  bool is_deterministic = false;
  // Products: LtGemmOptions.
  bool is_tuned = true;
  std::string gemm_cache_path = "";
  // Of products of few rows by a kernel of our own, where the device has one
  // and rows may depend on their number.
  bool has_stream_gemm = true;
  // The same of many rows, if they are gated or it is faster than the library.
  bool has_tile_gemm = true;
  // For TakeOperationTimes(): slows every step down.
  bool times_operations = false;
  bool measures_idleness = false;  // for IdleSeconds()
  // Of who waits for a mark, or for all.
  DeviceWait wait = DeviceWait::kSpin;
};

// Whether this build has the CUDA backend: --config=cuda.
bool HasCudaBackend();

// Operations are enqueued on one stream, swaps on another that it waits for
// where it must; SampleShard returns when its results are there. Buffers hold
// device memory, AllocateHost() pinned memory, which operations may be given
// too. The first error of the device ends all that follows: each call returns
// it, with the name of the operation that met it.
//   Unimplemented  this build has no CUDA backend
//   Unavailable    no such device, or its driver is too old
//   NotFound       no cuBLASLt 13 on this machine
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(
    const CudaBackendOptions& options);

}  // namespace quire

#endif  // KERNELS_CUDA_CUDA_BACKEND_H_
