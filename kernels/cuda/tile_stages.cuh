// SPDX-License-Identifier: Apache-2.0
//
// How pieces of the weight and of x come into shared memory, in a ring of
// stages that the two blocks of a cluster pass at the same pace.
#ifndef KERNELS_CUDA_TILE_STAGES_CUH_
#define KERNELS_CUDA_TILE_STAGES_CUH_

#include <cstdint>

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/stage_ring.cuh"
#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/tile_store.cuh"
#include "kernels/cuda/tile_work.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire::tile {

static_assert(kTilesOfCluster == 2);  // CopyBoxToPair()
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

// A stage may be written again once both blocks' consumers are done with it.
template <int kTokens>
__device__ __forceinline__ void Release(const Shared<kTokens>& shared,
                                        int stage) {
  const int lane = threadIdx.x % 32;
  if (lane < kTilesOfCluster) hopper::ArriveAt(&shared.empty[stage], lane);
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
  hopper::Ring<L::kStages> ring;
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
  const uint64_t policy = EvictNormal();
  const int32_t rank = RankInCluster();
  hopper::PrefetchMap(x);
  WaitForEarlierKernels();
  hopper::Ring<L::kStages> ring;
  int32_t passed = 0;
  for (Work work(args.plan, ClusterNumber()); work.Next();) {
    const int32_t row = work.token_tile * kTokens + rank * kHalf;
    for (int32_t piece = work.begin; piece < work.end; ++piece) {
      if (passed++ >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      hopper::CopyBoxToPair(
          x, piece * kTileCols, row,
          shared.x(ring.stage) + rank * (L::kXBytes / kTilesOfCluster),
          &shared.full[ring.stage], policy);
      ring.Next();
    }
  }
}

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_STAGES_CUH_
