// SPDX-License-Identifier: Apache-2.0
//
// How pieces of the weight and of x come into shared memory, in a ring of
// stages that the two blocks of a cluster pass at the same pace.
#ifndef KERNELS_CUDA_TILE_STAGES_CUH_
#define KERNELS_CUDA_TILE_STAGES_CUH_

#include <cstdint>

#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/tile_store.cuh"
#include "kernels/cuda/tile_work.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire::tile {

constexpr int kConsumers = 2 * kWarpgroup;
constexpr int kWBytes = kTileRows * kTileCols * 2;

template <int kTokens>
struct Layout {
  static constexpr int kXBytes = kTokens * kTileCols * 2;
  static constexpr int kStageBytes = kWBytes + kXBytes;
  static constexpr int kAlignment = 1024;  // of a swizzle's pattern
  static constexpr int kOutsBytes = 2 * kOutBytes;
  static constexpr int kStages =
      (226 * 1024 - kAlignment - kOutsBytes) / kStageBytes;
  static constexpr int kBytes = kStages * kStageBytes + kOutsBytes + kAlignment;
};

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

template <int kTokens>
struct Shared {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;  // of both blocks: what one loads is written in both

  __device__ uint8_t* w(int stage) const {
    return stages + stage * Layout<kTokens>::kStageBytes;
  }
  __device__ uint8_t* x(int stage) const { return w(stage) + kWBytes; }
  __device__ uint8_t* out(int warpgroup) const {
    return w(Layout<kTokens>::kStages) + warpgroup * kOutBytes;
  }
};

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
      "}\n" ::"r"(hopper::SharedAddress(barrier)),
      "r"(rank)
      : "memory");
}

// A stage may be written again once both blocks' consumers are done with it.
template <int kTokens>
__device__ __forceinline__ void Release(const Shared<kTokens>& shared,
                                        int stage) {
  const int lane = threadIdx.x % 32;
  if (lane < kTilesOfCluster) ArriveAt(&shared.empty[stage], lane);
}

// Into all blocks of the cluster, at the same place, and tells the same
// barrier of each.
__device__ __forceinline__ void CopyBoxToAll(const CUtensorMap& map, int col,
                                             int row, void* to,
                                             uint64_t* barrier) {
  constexpr uint16_t kAll = (1 << kTilesOfCluster) - 1;
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier"
      "::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], "
      "%5;" ::"r"(hopper::SharedAddress(to)),
      "l"(&map), "r"(col), "r"(row), "r"(hopper::SharedAddress(barrier)),
      "h"(kAll)
      : "memory");
}

__device__ __forceinline__ uint64_t EvictNormal() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0;"
               : "=l"(policy));
  return policy;
}

// Weights do not depend on the kernel before: the first of them are on their
// way while that one ends.
template <int kTokens>
__device__ void FeedWeights(const CUtensorMap& w, const TileGemmArgs& args,
                            const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  const uint64_t policy =
      args.plan.token_tiles == 1 ? hopper::EvictFirst() : EvictNormal();
  Ring<L::kStages> ring;
  int32_t passed = 0;
  for (Work work(args.plan, ClusterNumber()); work.Next();) {
    const int32_t row =
        (work.row_pair * kTilesOfCluster + RankInCluster()) * kTileRows;
    for (int32_t piece = work.begin; piece < work.end; ++piece) {
      if (passed++ >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      hopper::Expect(&shared.full[ring.stage], L::kStageBytes);
      hopper::CopyBox(w, piece * kTileCols, row, shared.w(ring.stage),
                      &shared.full[ring.stage], policy);
      ring.Next();
    }
  }
}

// The other half of the tokens comes from the other block. Its bytes may be
// there before they are expected: the phase waits for the arrival all the same.
template <int kTokens>
__device__ void FeedRows(const CUtensorMap& x, const TileGemmArgs& args,
                         const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  constexpr int kHalf = kTokens / kTilesOfCluster;
  const int32_t rank = RankInCluster();
  hopper::PrefetchMap(x);
  WaitForEarlierKernels();
  Ring<L::kStages> ring;
  int32_t passed = 0;
  for (Work work(args.plan, ClusterNumber()); work.Next();) {
    const int32_t row = work.token_tile * kTokens + rank * kHalf;
    for (int32_t piece = work.begin; piece < work.end; ++piece) {
      if (passed++ >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      CopyBoxToAll(x, piece * kTileCols, row,
                   shared.x(ring.stage) + rank * (L::kXBytes / kTilesOfCluster),
                   &shared.full[ring.stage]);
      ring.Next();
    }
  }
}

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_STAGES_CUH_
