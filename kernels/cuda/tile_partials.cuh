// SPDX-License-Identifier: Apache-2.0
//
// Sums of parts of k: left by some clusters, added by another in the order of
// k.
#ifndef KERNELS_CUDA_TILE_PARTIALS_CUH_
#define KERNELS_CUDA_TILE_PARTIALS_CUH_

#include <cstdint>

#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/tile_stages.cuh"
#include "kernels/cuda/tile_store.cuh"
#include "kernels/cuda/tile_work.cuh"

namespace quire::tile {

// Where a thread's sums are in a block's partial, four at a time: neighbours
// next to each other.
__device__ __forceinline__ float4* PartialOf(const TileGemmArgs& args,
                                             int32_t block, int tokens) {
  return reinterpret_cast<float4*>(args.partials +
                                   int64_t{block} * kTileRows * tokens) +
         threadIdx.x;
}

__device__ __forceinline__ int32_t* FlagOf(const TileGemmArgs& args,
                                           int32_t block) {
  return args.flags + block * 2 + threadIdx.x / kWarpgroup;
}

template <int kTokens>
__device__ __forceinline__ void LeavePartial(const TileGemmArgs& args,
                                             const float (&sums)[kTokens / 2]) {
  float4* to = PartialOf(args, blockIdx.x, kTokens);
#pragma unroll
  for (int i = 0; i < kTokens / 8; ++i) {
    __stcg(to + i * kConsumers, make_float4(sums[i * 4], sums[i * 4 + 1],
                                            sums[i * 4 + 2], sums[i * 4 + 3]));
  }
  SyncWarpgroup();  // what all wrote is released by one
  if (threadIdx.x % kWarpgroup == 0) {
    asm volatile(
        "st.release.gpu.global.s32 [%0], 1;" ::"l"(FlagOf(args, blockIdx.x))
        : "memory");
  }
}

// Until the other blocks' partials are there, and taken note of.
__device__ __forceinline__ void WaitForPartial(const TileGemmArgs& args,
                                               int32_t block) {
  int32_t* const flag = FlagOf(args, block);
  int32_t is_there = 0;
  while (is_there == 0) {
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                 : "=r"(is_there)
                 : "l"(flag)
                 : "memory");
  }
  *flag = 0;  // for the next launch: nobody else looks at it
}

// Adds what the clusters after this one have of the tile that ends at piece
// `tile_end`, in their order.
template <typename Shape, int kTokens>
__device__ __forceinline__ void AddPartials(const TileGemmArgs& args,
                                            int32_t tile_end,
                                            float (&sums)[kTokens / 2]) {
  constexpr int kAtOnce = 8;
  constexpr int kParts = kTokens / 8;
  const int32_t first = Shape::Cluster() + 1;
  int32_t last = first + 1;  // of the clusters that have a part, exclusive
  while (RunBegin(args.plan, last) < tile_end) ++last;
  const int32_t mine = first + threadIdx.x % kWarpgroup;
  if (mine < last) {
    WaitForPartial(args, mine * Shape::kBlocks + Shape::Rank());
  }
  SyncWarpgroup();
  for (int32_t cluster = first; cluster < last; ++cluster) {
    const float4* from =
        PartialOf(args, cluster * Shape::kBlocks + Shape::Rank(), kTokens);
#pragma unroll
    for (int begin = 0; begin < kParts; begin += kAtOnce) {
      float4 parts[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (begin + i < kParts) {
          parts[i] = __ldcg(from + (begin + i) * kConsumers);
        }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (begin + i >= kParts) break;
        const int at = (begin + i) * 4;
        sums[at] += parts[i].x;
        sums[at + 1] += parts[i].y;
        sums[at + 2] += parts[i].z;
        sums[at + 3] += parts[i].w;
      }
    }
  }
}

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_PARTIALS_CUH_
