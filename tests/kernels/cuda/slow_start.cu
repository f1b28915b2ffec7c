// SPDX-License-Identifier: Apache-2.0
#include "cuda_runtime.h"
#include "tests/kernels/cuda/slow_start.h"

namespace quire {
namespace {

__device__ uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

__global__ void SlowStartKernel(int64_t nanoseconds) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  const uint64_t end = Nanoseconds() + nanoseconds;
  while (Nanoseconds() < end) {
  }
}

}  // namespace

cudaError_t LaunchSlowStart(int64_t nanoseconds, cudaStream_t stream) {
  SlowStartKernel<<<1, 1, 0, stream>>>(nanoseconds);
  return cudaGetLastError();
}

}  // namespace quire
