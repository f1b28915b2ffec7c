// SPDX-License-Identifier: Apache-2.0
#ifndef KERNELS_CUDA_STAGE_RING_CUH_
#define KERNELS_CUDA_STAGE_RING_CUH_

namespace quire::hopper {

// A place in the ring of stages, and how often it was passed.
template <int kStages>
struct Ring {
  int stage = 0;
  int parity = 0;
  __device__ __forceinline__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace quire::hopper

#endif  // KERNELS_CUDA_STAGE_RING_CUH_
