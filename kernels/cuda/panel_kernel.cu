// SPDX-License-Identifier: Apache-2.0
//
// y = x W^T on tensor cores, x [m, k] as their A and a panel of W [n, k] as
// their B, whose width is any multiple of 32: so that a weight is dealt evenly
// to blocks, in most shapes without cutting along k. Where tokens are more
// than a block has room for, a cluster of two shares a panel.
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/panel_exchange.cuh"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/panel_norm.cuh"
#include "kernels/cuda/panel_stages.cuh"
#include "kernels/cuda/panel_store.cuh"
#include "kernels/cuda/peer_inbox.cuh"
#include "kernels/cuda/stage_ring.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire {
namespace {

using hopper::Ring;
using panel::kConsumers;
using panel::Layout;
using panel::Shared;
using panel::Work;

// One warp feeds weights, one rows of x, and one finds the rows' factors.
template <bool kFolds>
constexpr int kThreads = kConsumers + (kFolds ? 96 : 64);

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// The sums of `count` pieces of one panel. Products of a piece still run when
// the next's are issued.
template <int kRows, int kTokenParts>
__device__ __forceinline__ void MultiplyPieces(
    const Shared<kRows>& shared, int32_t count,
    Ring<Layout<kRows>::kStages>& ring, float (&sums)[kRows / 2]) {
  using L = Layout<kRows>;
  const int half = threadIdx.x / 128;  // of the tokens
#pragma unroll
  for (int i = 0; i < kRows / 2; ++i) sums[i] = 0.0f;
  int before = -1;
#pragma unroll 1
  for (int32_t i = 0; i < count; ++i) {
    hopper::Wait(&shared.full[ring.stage], ring.parity);
    const uint64_t a =
        hopper::Descriptor(shared.x(ring.stage) + half * (L::kXBytes / 2));
    const uint64_t b = hopper::Descriptor(shared.w(ring.stage));
    hopper::HoldRegisters(sums);
    hopper::BeginProducts();
#pragma unroll
    for (int k = 0; k < kPanelCols / 16; ++k) {
      hopper::Multiply<kRows>(sums, hopper::Advance(a, k),
                              hopper::Advance(b, k));
    }
    hopper::CommitProducts();
    hopper::WaitForProducts<1>();
    hopper::HoldRegisters(sums);
    if (before >= 0) panel::Release<kRows, kTokenParts>(shared, before);
    before = ring.stage;
    ring.Next();
  }
  hopper::WaitForProducts<0>();
  hopper::HoldRegisters(sums);
  if (before >= 0) panel::Release<kRows, kTokenParts>(shared, before);
}

// Sixteen sums of `sums`, those of chunk `chunk`.
template <int kRows>
__device__ __forceinline__ void ChunkOf(const float (&sums)[kRows / 2],
                                        int chunk, float (&out)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) out[i] = sums[chunk * 16 + i];
}

template <int kRows, bool kFolds>
__device__ __forceinline__ void StorePanel(const PanelGemmArgs& args,
                                           const Work& work, int32_t panel,
                                           const float (&sums)[kRows / 2],
                                           const panel::TokenFactors& factors,
                                           uint32_t turn) {
  // One kind at a time, so that the instructions of chunks mix.
  const auto store = [&](const auto& store_chunk) {
#pragma unroll
    for (int chunk = 0; chunk < kRows / panel::kChunkRows; ++chunk) {
      float sixteen[16];
      ChunkOf<kRows>(sums, chunk, sixteen);
      if constexpr (kFolds) factors.Scale(sixteen);
      store_chunk(panel::Place{panel * kRows + chunk * panel::kChunkRows,
                               work.first_token},
                  sixteen);
    }
  };
  if (args.is_gated) {
    store([&](const panel::Place& place, const float(&sixteen)[16]) {
      panel::StoreGated(args, place, sixteen);
    });
  } else if (args.y_is_float) {
    store([&](const panel::Place& place, float(&sixteen)[16]) {
      panel::AddBias(args, place, sixteen);
      panel::StoreFloats(args, place, sixteen);
    });
  } else {
    store([&](const panel::Place& place, float(&sixteen)[16]) {
      panel::OldChunk<kFolds> old(turn);
      old.Load(args, place);
      panel::AddBias(args, place, sixteen);
      panel::StoreRows(args, place, sixteen, old);
    });
  }
}

template <int kRows, int kTokenParts, bool kFolds>
__device__ void Consume(const PanelGemmArgs& args, const Work& work,
                        const Shared<kRows>& shared) {
  WaitForEarlierKernels();
  const uint32_t turn =
      args.peers.world_size > 1 ? peer::LoadTurn(args.peers) : 0;
  Ring<Layout<kRows>::kStages> ring;
#pragma unroll 1
  for (int32_t panel = work.first; panel < args.num_panels;
       panel += work.step) {
    float sums[kRows / 2];
    MultiplyPieces<kRows, kTokenParts>(shared, work.count, ring, sums);
    panel::TokenFactors factors;
    if constexpr (kFolds) factors.Find(args, shared.factors);
    if (args.splits == 1) {
      StorePanel<kRows, kFolds>(args, work, panel, sums, factors, turn);
    } else {
      panel::ExchangeAndStore<kRows, kFolds>(args, work, shared, sums, factors,
                                             turn);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// Folding kernels take norms before or after, and no peers.
template <int kRows, int kTokenParts, bool kFolds>
__global__ void __launch_bounds__(kThreads<kFolds>, 1)
    PanelGemmKernel(const __grid_constant__ CUtensorMap w,
                    const __grid_constant__ CUtensorMap x,
                    const __grid_constant__ PanelGemmArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = Layout<kRows>;
  extern __shared__ uint8_t raw[];
  __shared__ uint64_t full[L::kStages];
  __shared__ uint64_t empty[L::kStages];
  __shared__ uint64_t are_factors_there;
  __shared__ alignas(16) float factors[kPanelTokens];
  const Shared<kRows> shared = {
      reinterpret_cast<uint8_t*>(
          (reinterpret_cast<uintptr_t>(raw) + L::kAlignment - 1) /
          L::kAlignment * L::kAlignment),
      full,
      empty,
      {factors, &are_factors_there}};
  const Work work = Work::Of<kTokenParts>(args);
  if (threadIdx.x < L::kStages) {
    hopper::InitBarrier(&full[threadIdx.x], 1);
    hopper::InitBarrier(&empty[threadIdx.x], kTokenParts * panel::kWarps);
    if (kFolds && threadIdx.x == 0) {
      hopper::InitBarrier(&are_factors_there, panel::RowFactors::kArrivals);
    }
    hopper::PublishBarriers();
  }
  __syncthreads();
  if constexpr (kTokenParts > 1) hopper::SyncCluster();
  LetNextKernelBegin();
  if (threadIdx.x < kConsumers) {
    Consume<kRows, kTokenParts, kFolds>(args, work, shared);
  } else if (threadIdx.x == kConsumers) {
    panel::FeedWeights<kRows, kTokenParts>(w, args, work, shared);
  } else if (threadIdx.x == kConsumers + 32) {
    panel::FeedRows<kRows>(x, args, work, shared);
  } else if (kFolds && threadIdx.x >= kConsumers + 64 &&
             args.norm_before.squares != nullptr) {
    panel::FindFactors(args, shared.factors);
  }
#endif
}

template <int kRows, int kTokenParts, bool kFolds>
cudaError_t Prepare() {
  // For each device, which is one thread's.
  thread_local const cudaError_t prepared = cudaFuncSetAttribute(
      PanelGemmKernel<kRows, kTokenParts, kFolds>,
      cudaFuncAttributeMaxDynamicSharedMemorySize, Layout<kRows>::kBytes);
  return prepared;
}

template <int kRows, int kTokenParts, bool kFolds>
cudaError_t Launch(const CUtensorMap& w, const CUtensorMap& x,
                   const PanelGemmArgs& args, int32_t num_clusters,
                   cudaStream_t stream) {
  const cudaError_t prepared = Prepare<kRows, kTokenParts, kFolds>();
  if (prepared != cudaSuccess) return prepared;
  return LaunchOverlappedClusters(PanelGemmKernel<kRows, kTokenParts, kFolds>,
                                  dim3(num_clusters * kTokenParts), kTokenParts,
                                  dim3(kThreads<kFolds>), Layout<kRows>::kBytes,
                                  stream, w, x, args);
}

// Calls `function` with the number of rows as a constant.
template <typename Function>
cudaError_t WithRows(int32_t rows, const Function& function) {
  switch (rows) {
    case 64:
      return function(std::integral_constant<int, 64>());
    case 96:
      return function(std::integral_constant<int, 96>());
    case 128:
      return function(std::integral_constant<int, 128>());
    case 160:
      return function(std::integral_constant<int, 160>());
    case 192:
      return function(std::integral_constant<int, 192>());
    case 224:
      return function(std::integral_constant<int, 224>());
    case 256:
      return function(std::integral_constant<int, 256>());
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t LaunchPanelGemm(const CUtensorMap& w, const CUtensorMap& x,
                            const PanelGemmArgs& args, int32_t rows,
                            int32_t num_clusters, cudaStream_t stream) {
  const bool folds =
      args.norm_before.squares != nullptr || args.norm_after.squares != nullptr;
  if (folds && (args.token_parts > 1 || args.peers.world_size > 1)) {
    return cudaErrorInvalidValue;
  }
  return WithRows(rows, [&](auto constant) {
    constexpr int kRows = constant;
    const auto launch = args.token_parts > 1 ? Launch<kRows, 2, false>
                        : folds              ? Launch<kRows, 1, true>
                                             : Launch<kRows, 1, false>;
    return launch(w, x, args, num_clusters, stream);
  });
}

cudaError_t NumPanelPairs(int32_t* num_pairs) {
  constexpr int kRows = 256;
  const cudaError_t prepared = Prepare<kRows, 2, false>();
  if (prepared != cudaSuccess) return prepared;
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {2, 1, 1};
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(2);
  config.blockDim = dim3(kThreads<false>);
  config.dynamicSmemBytes = Layout<kRows>::kBytes;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaOccupancyMaxActiveClusters(
      num_pairs, PanelGemmKernel<kRows, 2, false>, &config);
}

}  // namespace quire
