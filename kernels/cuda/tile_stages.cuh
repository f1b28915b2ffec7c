// SPDX-License-Identifier: Apache-2.0
//
// How pieces of the weight and of x come into shared memory, in a ring of
// stages that the blocks of a cluster pass at the same pace.
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
  uint64_t* empty;  // of all blocks that get what this one loads

  __device__ uint8_t* w(int stage) const {
    return stages + stage * Layout<kTokens>::kStageBytes;
  }
  __device__ uint8_t* x(int stage) const { return w(stage) + kWBytes; }
  __device__ uint8_t* out(int warpgroup) const {
    return w(Layout<kTokens>::kStages) + warpgroup * kOutBytes;
  }
};

// Blocks that tell one that they are done with a stage: those of its rows and
// those of its tokens, itself once.
template <typename Shape>
constexpr int kReaders = Shape::kRowTiles + Shape::kTokenTiles - 1;

// A stage may be written again once all who get what is loaded into it are done
// with it.
template <typename Shape, int kTokens>
__device__ __forceinline__ void Release(const Shared<kTokens>& shared,
                                        int stage) {
  const int lane = threadIdx.x % 32;
  if (lane < Shape::kTokenTiles) {
    hopper::ArriveAt(&shared.empty[stage],
                     lane * Shape::kRowTiles + Shape::RowRank());
  } else if (lane < kReaders<Shape>) {
    const int other = lane - Shape::kTokenTiles;
    hopper::ArriveAt(&shared.empty[stage],
                     Shape::TokenRank() * Shape::kRowTiles + other +
                         (other >= Shape::RowRank()));
  }
}

// Blocks of this cluster with this block's rows of the weight, as bits.
template <typename Shape>
__device__ __forceinline__ uint16_t RanksOfMyRows() {
  uint32_t ranks = 0;
#pragma unroll
  for (int i = 0; i < Shape::kTokenTiles; ++i) {
    ranks |= 1u << (i * Shape::kRowTiles);
  }
  return static_cast<uint16_t>(ranks << Shape::RowRank());
}

// The same with this block's tokens.
template <typename Shape>
__device__ __forceinline__ uint16_t RanksOfMyTokens() {
  constexpr uint32_t kRanks = (1u << Shape::kRowTiles) - 1;
  return static_cast<uint16_t>(kRanks
                               << (Shape::TokenRank() * Shape::kRowTiles));
}

__device__ __forceinline__ uint64_t EvictNormal() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0;"
               : "=l"(policy));
  return policy;
}

// Weights do not depend on the kernel before: the first of them are on their
// way while that one ends. Each block loads a part of its tile's rows for all
// that have the same.
template <typename Shape, int kTokens>
__device__ void FeedWeights(const CUtensorMap& w, const TileGemmArgs& args,
                            const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  constexpr int kParts = Shape::kTokenTiles;
  const bool is_read_once = args.plan.token_units * args.plan.token_parts == 1;
  const uint64_t policy = is_read_once ? hopper::EvictFirst() : EvictNormal();
  const int32_t part = Shape::TokenRank();
  hopper::Ring<L::kStages> ring;
  int32_t passed = 0;
  for (Work<Shape> work(args.plan); work.Next();) {
    const int32_t row = work.row_tile * kTileRows + part * (kTileRows / kParts);
    for (int32_t piece = work.begin; piece < work.end; ++piece) {
      if (passed++ >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      uint64_t* const full = &shared.full[ring.stage];
      uint8_t* const to = shared.w(ring.stage) + part * (kWBytes / kParts);
      hopper::Expect(full, L::kStageBytes);
      if constexpr (kParts == 1) {
        hopper::CopyBox(w, piece * kTileCols, row, to, full, policy);
      } else {
        hopper::CopyBoxToBlocks(RanksOfMyRows<Shape>(), w, piece * kTileCols,
                                row, to, full, policy);
      }
      ring.Next();
    }
  }
  hopper::AwaitReaders(shared.empty, ring, passed);
}

// Before x is read. A second launch begins when all blocks of the first have
// come by here: all kernels before are done then, and what they wrote is in the
// cache that all multiprocessors share. The copy engine reads x there, and
// flags and sums of parts bypass what a multiprocessor keeps for itself, so
// that it need not wait for the first launch to end.
__device__ __forceinline__ void WaitForInputs(TilePart part) {
  if (part == TilePart::kSecond) return;
  WaitForEarlierKernels();
  if (part == TilePart::kFirst) LetNextKernelBegin();
}

// Each block loads a part of its tokens for all that have the same. Bytes of
// others may be there before they are expected: the phase waits for the arrival
// all the same. A part need not begin where a swizzle's pattern does: both
// sides take the pattern from addresses.
template <typename Shape, int kTokens>
__device__ void FeedRows(const CUtensorMap& x, const TileGemmArgs& args,
                         const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  constexpr int kParts = Shape::kRowTiles;
  const uint64_t policy = EvictNormal();
  const int32_t part = Shape::RowRank();
  hopper::PrefetchMap(x);
  WaitForInputs(args.part);
  hopper::Ring<L::kStages> ring;
  int32_t passed = 0;
  for (Work<Shape> work(args.plan); work.Next();) {
    const int32_t row = work.token_tile * kTokens + part * (kTokens / kParts);
    for (int32_t piece = work.begin; piece < work.end; ++piece) {
      if (passed++ >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      hopper::CopyBoxToBlocks(
          RanksOfMyTokens<Shape>(), x, piece * kTileCols, row,
          shared.x(ring.stage) + part * (L::kXBytes / kParts),
          &shared.full[ring.stage], policy);
      ring.Next();
    }
  }
}

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_STAGES_CUH_
