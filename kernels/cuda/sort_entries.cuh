// SPDX-License-Identifier: Apache-2.0
//
// Sorting a block's list in shared memory.
#ifndef KERNELS_CUDA_SORT_ENTRIES_CUH_
#define KERNELS_CUDA_SORT_ENTRIES_CUH_

#include <cstdint>

namespace quire::cuda {

// Sorts `count` entries, descending, by a bitonic network over the next power
// of two, up to which `entries` are overwritten. All `kThreads` threads of the
// block call it; what they wrote before may be unsynchronized.
template <int kThreads>
__device__ void SortDescending(int count, uint64_t* entries) {
  int size = 2;
  while (size < count) size *= 2;
  for (int i = count + threadIdx.x; i < size; i += kThreads) entries[i] = 0;
  for (int width = 2; width <= size; width *= 2) {
    for (int stride = width / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size / 2; i += kThreads) {
        const int low = 2 * i - (i & (stride - 1));
        const int high = low + stride;
        const uint64_t a = entries[low];
        const uint64_t b = entries[high];
        if ((a < b) == ((low & width) == 0)) {
          entries[low] = b;
          entries[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

}  // namespace quire::cuda

#endif  // KERNELS_CUDA_SORT_ENTRIES_CUH_
