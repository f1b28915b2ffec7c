// SPDX-License-Identifier: Apache-2.0
//
// Kernels that begin while the one before them in the stream still ends
// (programmatic dependent launch, on Hopper and later).
#ifndef KERNELS_CUDA_OVERLAPPED_LAUNCH_CUH_
#define KERNELS_CUDA_OVERLAPPED_LAUNCH_CUH_

#include <cstdint>

#include "cuda_runtime.h"

namespace quire {

// Returns when all kernels before this one are done, and what they wrote is
// visible. A kernel launched overlapped calls it before it reads or writes what
// they use, or at the latest before it ends: those after it wait for its end
// alone.
__device__ __forceinline__ void WaitForEarlierKernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next kernel may begin, if it was launched overlapped, once all thread
// blocks have come by here or ended.
__device__ __forceinline__ void LetNextKernelBegin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Enqueues a kernel that may begin as above, where devices can; there in
// clusters of so many blocks, if of more than one.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchOverlappedClusters(void (*kernel)(Parameters...), dim3 blocks,
                                     uint32_t cluster, dim3 threads,
                                     int32_t shared_bytes, cudaStream_t stream,
                                     const Arguments&... arguments) {
  int device = 0, major = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  attributes[1].id = cudaLaunchAttributeClusterDimension;
  attributes[1].val.clusterDim.x = cluster;
  attributes[1].val.clusterDim.y = 1;
  attributes[1].val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = major < 9 ? 0 : cluster > 1 ? 2 : 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <typename... Parameters, typename... Arguments>
cudaError_t LaunchOverlapped(void (*kernel)(Parameters...), dim3 blocks,
                             dim3 threads, int32_t shared_bytes,
                             cudaStream_t stream,
                             const Arguments&... arguments) {
  return LaunchOverlappedClusters(kernel, blocks, /*cluster=*/1, threads,
                                  shared_bytes, stream, arguments...);
}

}  // namespace quire

#endif  // KERNELS_CUDA_OVERLAPPED_LAUNCH_CUH_
