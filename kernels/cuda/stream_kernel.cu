// SPDX-License-Identifier: Apache-2.0
//
// y^T = W x^T on tensor cores, W [n, k] as their A and x [m, k] as their B, so
// that the few rows of x are the narrow side. Not tiles but their pieces are
// dealt to blocks (Stream-K, Osama et al., PPoPP'23): the block in which a tile
// begins adds what the blocks after it leave of that tile, in their order, and
// stores it.
#include <cstdint>

#include "kernels/cuda/left_sums.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/stage_ring.cuh"
#include "kernels/cuda/stream_kernel.h"
#include "kernels/cuda/stream_store.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire {
namespace {

constexpr int kConsumers = 256;  // two warpgroups, 64 rows of the tile each
// One warp feeds weights, one rows of x: a thread that walks along both would
// be slower than the memory.
constexpr int kThreads = kConsumers + 64;
constexpr int kWBytes = kStreamTileRows * kStreamTileCols * 2;

// As many stages as fit: bytes in flight are what bandwidth needs, and what
// there is before the kernel before ends need not be waited for after.
template <int kTokens>
struct Layout {
  static constexpr int kXBytes = kTokens * kStreamTileCols * 2;
  static constexpr int kStageBytes = kWBytes + kXBytes;
  static constexpr int kAlignment = 1024;  // of a swizzle's pattern
  static constexpr int kStages = (226 * 1024 - kAlignment) / kStageBytes;
  static constexpr int BytesOf(int stages) {
    return stages * kStageBytes + kAlignment;
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Stages that are on their way at once, after the first kStages: a queue that
// is no longer than it need be serves all multiprocessors alike. With all
// stages the fastest was done in 0.66 of the slowest's time on an H200, with
// five in 0.83. Of many tokens the rows of x need more.
template <int kTokens>
constexpr int kInFlight = kTokens <= 32 ? 5 : Layout<kTokens>::kStages;

// Where block `block`'s run begins.
__device__ __forceinline__ int32_t RunBegin(const StreamPlan& plan,
                                            int32_t block) {
  return block * plan.units_per_block + min(block, plan.longer_blocks);
}

// A walk along a run, piece by piece, without a division for each.
struct Walk {
  int32_t row;  // of the weight
  int32_t col;
  int32_t num_cols;

  __device__ Walk(const StreamPlan& plan, int32_t unit)
      : row(unit / plan.units_per_tile),
        col((unit - row * plan.units_per_tile) * kStreamTileCols),
        num_cols(plan.units_per_tile * kStreamTileCols) {
    row *= kStreamTileRows;
  }
  __device__ __forceinline__ void Next() {
    col += kStreamTileCols;
    if (col == num_cols) {
      col = 0;
      row += kStreamTileRows;
    }
  }
};

template <int kTokens>
struct Shared {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;

  __device__ uint8_t* w(int stage) const {
    return stages + stage * Layout<kTokens>::kStageBytes;
  }
  __device__ uint8_t* x(int stage) const { return w(stage) + kWBytes; }
};

// One thread feeds weights. They do not depend on the kernel before, so that
// the first of them are on their way while that one ends.
template <int kTokens>
__device__ void FeedWeights(const CUtensorMap& w, const StreamGemmArgs& args,
                            int32_t begin, int32_t count,
                            const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  const uint64_t once = hopper::EvictFirst();
  Walk walk(args.plan, begin);
  hopper::Ring<L::kStages> ring;
#pragma unroll 1
  for (int32_t i = 0; i < count; ++i) {
    if (i >= L::kStages) {
      hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      if constexpr (kInFlight<kTokens> < L::kStages) {
        const int32_t there = i - kInFlight<kTokens>;
        hopper::Wait(&shared.full[there % L::kStages], there / L::kStages % 2);
      }
    }
    hopper::Expect(&shared.full[ring.stage], L::kStageBytes);
    hopper::CopyBox(w, walk.col, walk.row, shared.w(ring.stage),
                    &shared.full[ring.stage], once);
    walk.Next();
    ring.Next();
  }
}

// Another the rows of x. Its bytes may be there before they are expected: the
// phase waits for the other's arrival all the same.
template <int kTokens>
__device__ void FeedRows(const CUtensorMap& x, const StreamGemmArgs& args,
                         int32_t begin, int32_t count,
                         const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  const uint64_t again = hopper::EvictLast();
  Walk walk(args.plan, begin);
  hopper::Ring<L::kStages> ring;
  hopper::PrefetchMap(x);
  WaitForEarlierKernels();
#pragma unroll 1
  for (int32_t i = 0; i < count; ++i) {
    if (i >= L::kStages) {
      hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
    }
    hopper::CopyBox(x, walk.col, 0, shared.x(ring.stage),
                    &shared.full[ring.stage], again);
    walk.Next();
    ring.Next();
  }
}

// Where four of a thread's sums are in a block's partial: neighbours next to
// each other.
template <int kTokens>
__device__ __forceinline__ uint4* PartialOf(const StreamGemmArgs& args,
                                            int32_t block, int vector) {
  return reinterpret_cast<uint4*>(args.partials) +
         (block * (kTokens / 8) + vector) * kConsumers + threadIdx.x;
}

template <int kTokens>
__device__ void LeavePartial(const StreamGemmArgs& args,
                             const float (&sums)[kTokens / 2]) {
#pragma unroll
  for (int i = 0; i < kTokens / 8; ++i) {
    left::Leave(&sums[i * 4], PartialOf<kTokens>(args, blockIdx.x, i));
  }
}

// Adds what the blocks after this one have of the tile that ends at `end`, in
// their order, as many at a time as registers hold.
template <int kTokens>
__device__ void AddPartials(const StreamGemmArgs& args, int32_t end,
                            float (&sums)[kTokens / 2]) {
  constexpr int kVectors = kTokens / 8;
  constexpr int kPiece = kVectors < 4 ? kVectors : 4;
  constexpr int kAtOnce = kTokens <= 16 ? 4 : 2;
  const int32_t first = blockIdx.x + 1;
  int32_t last = first + 1;  // of the blocks that have a part, exclusive
  while (RunBegin(args.plan, last) < end) ++last;
#pragma unroll
  for (int piece = 0; piece < kVectors; piece += kPiece) {
#pragma unroll 1
    for (int32_t block = first; block < last; block += kAtOnce) {
      uint4 parts[kAtOnce * kPiece];
      const auto place = [&](int i) {
        return PartialOf<kTokens>(args, min(block + i / kPiece, last - 1),
                                  piece + i % kPiece);
      };
      left::Find(place, parts);
#pragma unroll
      for (int i = 0; i < kAtOnce * kPiece; ++i) {
        if (block + i / kPiece >= last) break;
        left::Take(place(i), parts[i], &sums[(piece + i % kPiece) * 4]);
      }
    }
  }
}

// The sums of `count` pieces of one tile.
template <int kTokens>
__device__ __forceinline__ void MultiplyPieces(
    const Shared<kTokens>& shared, int32_t count,
    hopper::Ring<Layout<kTokens>::kStages>& ring, float (&sums)[kTokens / 2]) {
  const int half = threadIdx.x / 128;  // of the tile's rows
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) sums[i] = 0.0f;
#pragma unroll 1
  for (; count > 0; --count) {
    hopper::Wait(&shared.full[ring.stage], ring.parity);
    const uint64_t a =
        hopper::Descriptor(shared.w(ring.stage) + half * (kWBytes / 2));
    const uint64_t b = hopper::Descriptor(shared.x(ring.stage));
    hopper::HoldRegisters(sums);
    hopper::BeginProducts();
#pragma unroll
    for (int k = 0; k < kStreamTileCols / 16; ++k) {
      hopper::Multiply<kTokens>(sums, hopper::Advance(a, k),
                                hopper::Advance(b, k));
    }
    hopper::CommitProducts();
    hopper::WaitForProducts<0>();
    hopper::HoldRegisters(sums);
    if (threadIdx.x % 32 == 0) hopper::Arrive(&shared.empty[ring.stage]);
    ring.Next();
  }
}

template <int kTokens>
__device__ void Consume(const StreamGemmArgs& args, int32_t begin, int32_t end,
                        const Shared<kTokens>& shared) {
  WaitForEarlierKernels();
  const int32_t units_per_tile = args.plan.units_per_tile;
  int32_t tile = begin / units_per_tile;
  int32_t tile_begin = tile * units_per_tile;
  hopper::Ring<Layout<kTokens>::kStages> ring;
#pragma unroll 1
  for (int32_t unit = begin; unit < end; ++tile) {
    const int32_t tile_end = tile_begin + units_per_tile;
    const int32_t last = min(end, tile_end);
    const bool is_stored_here = unit == tile_begin;
    float sums[kTokens / 2];
    stream::OldRows<kTokens> old;
    if (is_stored_here) old.Load(args, tile);
    MultiplyPieces<kTokens>(shared, last - unit, ring, sums);
    if (is_stored_here) {
      if (last < tile_end) AddPartials<kTokens>(args, tile_end, sums);
      stream::StoreTile<kTokens>(args, tile, sums, old);
    } else {
      LeavePartial<kTokens>(args, sums);
    }
    unit = last;
    tile_begin = tile_end;
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kTokens>
__global__ void __launch_bounds__(kThreads, 1)
    StreamGemmKernel(const __grid_constant__ CUtensorMap w,
                     const __grid_constant__ CUtensorMap x,
                     const __grid_constant__ StreamGemmArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = Layout<kTokens>;
  extern __shared__ uint8_t raw[];
  __shared__ uint64_t full[L::kStages];
  __shared__ uint64_t empty[L::kStages];
  const Shared<kTokens> shared = {
      reinterpret_cast<uint8_t*>(
          (reinterpret_cast<uintptr_t>(raw) + L::kAlignment - 1) /
          L::kAlignment * L::kAlignment),
      full, empty};
  if (threadIdx.x < L::kStages) {
    hopper::InitBarrier(&full[threadIdx.x], 1);
    hopper::InitBarrier(&empty[threadIdx.x], kConsumers / 32);
    hopper::PublishBarriers();
  }
  __syncthreads();
  LetNextKernelBegin();
  const int32_t begin = RunBegin(args.plan, blockIdx.x);
  const int32_t end = RunBegin(args.plan, blockIdx.x + 1);
  if (threadIdx.x < kConsumers) {
    Consume<kTokens>(args, begin, end, shared);
  } else if (threadIdx.x == kConsumers) {
    FeedWeights<kTokens>(w, args, begin, end - begin, shared);
  } else if (threadIdx.x == kConsumers + 32) {
    FeedRows<kTokens>(x, args, begin, end - begin, shared);
  }
#endif
}

template <int kTokens>
cudaError_t Launch(const CUtensorMap& w, const CUtensorMap& x,
                   const StreamGemmArgs& args, cudaStream_t stream) {
  using L = Layout<kTokens>;
  // For each device, which is one thread's.
  thread_local const cudaError_t prepared = cudaFuncSetAttribute(
      StreamGemmKernel<kTokens>, cudaFuncAttributeMaxDynamicSharedMemorySize,
      L::BytesOf(L::kStages));
  if (prepared != cudaSuccess) return prepared;
  // A short run leaves shared memory to the kernels before, beside which this
  // one begins then.
  const int32_t longest =
      args.plan.units_per_block + (args.plan.longer_blocks > 0 ? 1 : 0);
  const int32_t bytes = L::BytesOf(longest < L::kStages ? longest : L::kStages);
  return LaunchOverlapped(StreamGemmKernel<kTokens>, dim3(args.plan.num_blocks),
                          dim3(kThreads), bytes, stream, w, x, args);
}

}  // namespace

cudaError_t LaunchStreamGemm(const CUtensorMap& w, const CUtensorMap& x,
                             const StreamGemmArgs& args, int32_t tokens,
                             cudaStream_t stream) {
  switch (tokens) {
    case 8:
      return Launch<8>(w, x, args, stream);
    case 16:
      return Launch<16>(w, x, args, stream);
    case 32:
      return Launch<32>(w, x, args, stream);
    case 64:
      return Launch<64>(w, x, args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace quire
