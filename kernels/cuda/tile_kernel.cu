// SPDX-License-Identifier: Apache-2.0
//
// y^T = W x^T on tensor cores, W [n, k] as their A and x [m, k] as their B:
// tokens are the side whose tile can be of any multiple of sixteen. One warp
// feeds weights, one rows of x, parts of both to several blocks of the cluster;
// two warpgroups multiply 64 rows of the tile each.
//
// Whole tiles are dealt to clusters in turns. Where that would leave many
// without work in the last turn, the pieces of some tiles are dealt instead
// (Stream-K, Osama et al., PPoPP'23): the cluster in which a tile begins adds
// what those after it leave of that tile, in their order, and stores it.
//
// Clusters of eight leave multiprocessors over on devices whose parts are no
// multiples of eight. There a second launch of pairs computes a share of the
// tiles. It begins when all blocks of the first are placed, so that it takes no
// place from them, and the two share nothing that either could wait for.
#include <cstdint>

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/stage_ring.cuh"
#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/tile_partials.cuh"
#include "kernels/cuda/tile_stages.cuh"
#include "kernels/cuda/tile_store.cuh"
#include "kernels/cuda/tile_work.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/cuda/wgmma_wide.cuh"

namespace quire {
namespace {

using hopper::Ring;
using tile::kConsumers;
using tile::kReaders;
using tile::kWBytes;
using tile::Layout;
using tile::Shared;
using tile::Work;

using Pair = tile::Shape<kPairOfTiles.row_tiles, kPairOfTiles.token_tiles>;
using Eight = tile::Shape<kEightTiles.row_tiles, kEightTiles.token_tiles>;

constexpr int kThreads = kConsumers + tile::kWarpgroup;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Of the lower half of a matrix's descriptor: the upper one is the same for
// all.
__device__ __forceinline__ uint64_t DescriptorAt(uint32_t low) {
  return uint64_t{0x40000040} << 32 | low;
}

// The sums of `count` pieces of one tile. The products of a piece are on their
// way while those of the piece before end.
template <typename Shape, int kTokens>
__device__ __forceinline__ void MultiplyPieces(
    const Shared<kTokens>& shared, int warpgroup, int32_t count,
    Ring<Layout<kTokens>::kStages>& ring, float (&sums)[kTokens / 2]) {
  int before = 0;
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) sums[i] = 0.0f;
#pragma unroll 1
  for (int32_t piece = 0; piece < count; ++piece) {
    // The same in all lanes, which the compiler is to know.
    const uint32_t a =
        __shfl_sync(0xffffffffu,
                    static_cast<uint32_t>(hopper::Descriptor(
                        shared.w(ring.stage) + warpgroup * (kWBytes / 2))),
                    0);
    const uint32_t b = __shfl_sync(
        0xffffffffu,
        static_cast<uint32_t>(hopper::Descriptor(shared.x(ring.stage))), 0);
    hopper::Wait(&shared.full[ring.stage], ring.parity);
    hopper::HoldRegisters(sums);
    hopper::BeginProducts();
#pragma unroll
    for (int k = 0; k < kTileCols / 16; ++k) {
      hopper::Multiply<kTokens>(sums, DescriptorAt(a + 2 * k),
                                DescriptorAt(b + 2 * k));
    }
    hopper::CommitProducts();
    hopper::HoldRegisters(sums);
    hopper::WaitForProducts<1>();
    if (piece > 0) tile::Release<Shape>(shared, before);
    before = ring.stage;
    ring.Next();
  }
  hopper::WaitForProducts<0>();
  hopper::HoldRegisters(sums);
  tile::Release<Shape>(shared, before);
}

template <typename Shape, int kTokens>
__device__ __forceinline__ void Consume(const CUtensorMap& y,
                                        const TileGemmArgs& args,
                                        const Shared<kTokens>& shared) {
  // The same in all lanes, which the compiler is to know.
  const int warpgroup =
      __shfl_sync(0xffffffffu, threadIdx.x / tile::kWarpgroup, /*srcLane=*/0);
  hopper::PrefetchMap(y);
  if (args.part != TilePart::kSecond) WaitForEarlierKernels();
  Ring<Layout<kTokens>::kStages> ring;
  for (Work<Shape> work(args.plan); work.Next();) {
    float sums[kTokens / 2];
    MultiplyPieces<Shape, kTokens>(shared, warpgroup, work.end - work.begin,
                                   ring, sums);
    if (work.begin > 0) {
      tile::LeavePartial<kTokens>(args, sums);
      continue;
    }
    if (work.end < args.plan.pieces_per_tile) {
      tile::AddPartials<Shape, kTokens>(args, work.tile_end, sums);
    }
    const tile::Place place = {
        work.row_tile * kTileRows + warpgroup * tile::kWarpgroupRows,
        work.token_tile * kTokens};
    tile::Store<kTokens>(y, args, place, shared.out(warpgroup), sums);
  }
  tile::WaitForStores();
  // Those after a second launch wait for that one alone.
  if (args.part == TilePart::kSecond) WaitForEarlierKernels();
}

template <int kRegisters>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <typename Shape, int kTokens>
__global__ void __launch_bounds__(kThreads, 1)
    TileGemmKernel(const __grid_constant__ CUtensorMap w,
                   const __grid_constant__ CUtensorMap x,
                   const __grid_constant__ CUtensorMap y,
                   const __grid_constant__ TileGemmArgs args) {
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
    hopper::InitBarrier(&empty[threadIdx.x], kReaders<Shape> * kConsumers / 32);
    hopper::PublishBarriers();
  }
  hopper::SyncCluster();
  if (args.part != TilePart::kFirst) LetNextKernelBegin();
  if (threadIdx.x >= kConsumers) {
    GiveRegisters<40>();
    if (threadIdx.x == kConsumers) {
      tile::FeedWeights<Shape, kTokens>(w, args, shared);
    } else if (threadIdx.x == kConsumers + 32) {
      tile::FeedRows<Shape, kTokens>(x, args, shared);
    }
  } else {
    TakeRegisters<232>();
    Consume<Shape, kTokens>(y, args, shared);
  }
#endif
}

template <typename Shape, int kTokens>
cudaError_t Prepare() {
  // For each device, which is one thread's.
  thread_local const cudaError_t prepared = cudaFuncSetAttribute(
      TileGemmKernel<Shape, kTokens>,
      cudaFuncAttributeMaxDynamicSharedMemorySize, Layout<kTokens>::kBytes);
  return prepared;
}

template <typename Shape, int kTokens>
cudaError_t Launch(const CUtensorMap& w, const CUtensorMap& x,
                   const CUtensorMap& y, const TileGemmArgs& args,
                   cudaStream_t stream) {
  const cudaError_t prepared = Prepare<Shape, kTokens>();
  if (prepared != cudaSuccess) return prepared;
  return LaunchOverlappedClusters(
      TileGemmKernel<Shape, kTokens>,
      dim3(args.plan.num_clusters * Shape::kBlocks), Shape::kBlocks,
      dim3(kThreads), Layout<kTokens>::kBytes, stream, w, x, y, args);
}

template <typename Shape>
cudaError_t LaunchOf(const CUtensorMap& w, const CUtensorMap& x,
                     const CUtensorMap& y, const TileGemmArgs& args,
                     int32_t tokens, cudaStream_t stream) {
  switch (tokens) {
    case 128:
      return Launch<Shape, 128>(w, x, y, args, stream);
    case 144:
      return Launch<Shape, 144>(w, x, y, args, stream);
    case 160:
      return Launch<Shape, 160>(w, x, y, args, stream);
    case 176:
      return Launch<Shape, 176>(w, x, y, args, stream);
    case 192:
      return Launch<Shape, 192>(w, x, y, args, stream);
    case 208:
      return Launch<Shape, 208>(w, x, y, args, stream);
    case 224:
      return Launch<Shape, 224>(w, x, y, args, stream);
    case 240:
      return Launch<Shape, 240>(w, x, y, args, stream);
    case 256:
      return Launch<Shape, 256>(w, x, y, args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <typename Shape>
cudaError_t NumClustersOf(int32_t* num_clusters) {
  const cudaError_t prepared = Prepare<Shape, kMaxTileTokens>();
  if (prepared != cudaSuccess) return prepared;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {Shape::kBlocks, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(Shape::kBlocks);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = Layout<kMaxTileTokens>::kBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaOccupancyMaxActiveClusters(
      num_clusters, TileGemmKernel<Shape, kMaxTileTokens>, &config);
}

}  // namespace

cudaError_t LaunchTileGemm(const CUtensorMap& w, const CUtensorMap& x,
                           const CUtensorMap& y, const TileGemmArgs& args,
                           int32_t tokens, cudaStream_t stream) {
  return args.plan.shape == kEightTiles
             ? LaunchOf<Eight>(w, x, y, args, tokens, stream)
             : LaunchOf<Pair>(w, x, y, args, tokens, stream);
}

cudaError_t NumTileClusters(const ClusterShape& shape, int32_t* num_clusters) {
  return shape == kEightTiles ? NumClustersOf<Eight>(num_clusters)
                              : NumClustersOf<Pair>(num_clusters);
}

}  // namespace quire
