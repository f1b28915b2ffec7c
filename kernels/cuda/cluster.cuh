// SPDX-License-Identifier: Apache-2.0
//
// What blocks of a cluster do for each other on Hopper: they meet, tell each
// other's barriers, and copy to several at once. A block alone is a cluster of
// one.
#ifndef KERNELS_CUDA_CLUSTER_CUH_
#define KERNELS_CUDA_CLUSTER_CUH_

#include <cstdint>

#include "cuda.h"
#include "kernels/cuda/stage_ring.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire::hopper {

// Of all threads of the cluster; of what they wrote, barriers alone are there.
__device__ __forceinline__ void SyncCluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// At the same barrier of block `rank` of the cluster. What it follows are
// products that are done, not writes: releasing those to the cluster would take
// longer than a piece.
__device__ __forceinline__ void ArriveAt(uint64_t* barrier, int rank) {
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(rank)
      : "memory");
}

// As CopyBox(), into the blocks of a cluster whose ranks are the bits of
// `ranks`, at the same place, and tells the same barrier of each.
__device__ __forceinline__ void CopyBoxToBlocks(uint16_t ranks,
                                                const CUtensorMap& map, int col,
                                                int row, void* to,
                                                uint64_t* barrier,
                                                uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier"
      "::complete_tx::bytes.multicast::cluster.L2::cache_hint [%0], [%1, {%2, "
      "%3}], [%4], %5, %6;" ::"r"(SharedAddress(to)),
      "l"(&map), "r"(col), "r"(row), "r"(SharedAddress(barrier)), "h"(ranks),
      "l"(policy)
      : "memory");
}

// Waits until all readers have told this block that they are done with what it
// loaded: before it ends, as they tell barriers of its own, and what they read
// may still be on its way from it to them. `ring` is where the next of
// `num_loaded` pieces would have gone.
template <int kStages>
__device__ __forceinline__ void AwaitReaders(uint64_t* empty,
                                             Ring<kStages> ring,
                                             int32_t num_loaded) {
#pragma unroll 1
  for (int i = 0; i < kStages; ++i) {
    if (num_loaded + i >= kStages) Wait(&empty[ring.stage], ring.parity ^ 1);
    ring.Next();
  }
}

}  // namespace quire::hopper

#endif  // KERNELS_CUDA_CLUSTER_CUH_
