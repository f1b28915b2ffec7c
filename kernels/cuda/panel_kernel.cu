// SPDX-License-Identifier: Apache-2.0
//
// y = x W^T on tensor cores, x [m, k] as their A and a panel of W [n, k] as
// their B, whose width is any multiple of 32: so that a weight is dealt evenly
// to blocks, in most shapes without cutting along k.
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/left_sums.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/panel_store.cuh"
#include "kernels/cuda/peer_inbox.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire {
namespace {

constexpr int kConsumers = 256;  // two warpgroups, 64 tokens each
// One warp feeds weights, one rows of x.
constexpr int kThreads = kConsumers + 64;
constexpr int kRowBytes = kPanelCols * 2;

template <int kRows>
struct Layout {
  static constexpr int kWBytes = kRows * kRowBytes;
  static constexpr int kXBytes = kPanelTokens * kRowBytes;
  static constexpr int kStageBytes = kWBytes + kXBytes;
  static constexpr int kAlignment = 1024;  // of a swizzle's pattern
  static constexpr int kStages = (226 * 1024 - kAlignment) / kStageBytes;
  static constexpr int kBytes = kStages * kStageBytes + kAlignment;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// What a block has to do: `count` pieces from column `first_col` on, of panel
// `first` and of every `step`th after it.
struct Work {
  int32_t split;
  int32_t first_col;
  int32_t count;
  int32_t first;
  int32_t step;

  __device__ explicit Work(const PanelGemmArgs& args) {
    const int32_t block = blockIdx.x;
    first = block / args.splits;
    split = block - first * args.splits;
    const int32_t begin = split * args.num_units / args.splits;
    const int32_t end = (split + 1) * args.num_units / args.splits;
    first_col = begin * kPanelCols;
    count = end - begin;
    step = static_cast<int32_t>(gridDim.x) / args.splits;
  }
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

template <int kRows>
struct Shared {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;

  __device__ uint8_t* w(int stage) const {
    return stages + stage * Layout<kRows>::kStageBytes;
  }
  __device__ uint8_t* x(int stage) const {
    return w(stage) + Layout<kRows>::kWBytes;
  }
};

// One thread feeds weights. They do not depend on the kernel before, so that
// the first of them are on their way while that one ends.
template <int kRows>
__device__ void FeedWeights(const CUtensorMap& w, const PanelGemmArgs& args,
                            const Work& work, const Shared<kRows>& shared) {
  using L = Layout<kRows>;
  const uint64_t once = hopper::EvictFirst();
  const int stage_bytes = L::kWBytes + args.x_rows * kRowBytes;
  Ring<L::kStages> ring;
  int32_t fed = 0;
#pragma unroll 1
  for (int32_t panel = work.first; panel < args.num_panels;
       panel += work.step) {
#pragma unroll 1
    for (int32_t i = 0; i < work.count; ++i, ++fed) {
      if (fed >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      hopper::Expect(&shared.full[ring.stage], stage_bytes);
      hopper::CopyBox(w, work.first_col + i * kPanelCols, panel * kRows,
                      shared.w(ring.stage), &shared.full[ring.stage], once);
      ring.Next();
    }
  }
}

// Another the rows of x. Its bytes may be there before they are expected: the
// phase waits for the other's arrival all the same.
template <int kRows>
__device__ void FeedRows(const CUtensorMap& x, const PanelGemmArgs& args,
                         const Work& work, const Shared<kRows>& shared) {
  using L = Layout<kRows>;
  const uint64_t again = hopper::EvictLast();
  Ring<L::kStages> ring;
  hopper::PrefetchMap(x);
  WaitForEarlierKernels();
  int32_t fed = 0;
#pragma unroll 1
  for (int32_t panel = work.first; panel < args.num_panels;
       panel += work.step) {
#pragma unroll 1
    for (int32_t i = 0; i < work.count; ++i, ++fed) {
      if (fed >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      hopper::CopyBox(x, work.first_col + i * kPanelCols, 0,
                      shared.x(ring.stage), &shared.full[ring.stage], again);
      ring.Next();
    }
  }
}

// The sums of `count` pieces of one panel. Products of a piece still run when
// the next's are issued.
template <int kRows>
__device__ __forceinline__ void MultiplyPieces(
    const Shared<kRows>& shared, int32_t count,
    Ring<Layout<kRows>::kStages>& ring, float (&sums)[kRows / 2]) {
  using L = Layout<kRows>;
  const int half = threadIdx.x / 128;  // of the tokens
  const auto release = [&](int stage) {
    if (threadIdx.x % 32 == 0) hopper::Arrive(&shared.empty[stage]);
  };
#pragma unroll
  for (int i = 0; i < kRows / 2; ++i) sums[i] = 0.0f;
  int before = -1;
#pragma unroll 1
  for (; count > 0; --count) {
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
    if (before >= 0) release(before);
    before = ring.stage;
    ring.Next();
  }
  hopper::WaitForProducts<0>();
  hopper::HoldRegisters(sums);
  if (before >= 0) release(before);
}

// Sixteen sums of `sums`, those of chunk `chunk`.
template <int kRows>
__device__ __forceinline__ void ChunkOf(const float (&sums)[kRows / 2],
                                        int chunk, float (&out)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) out[i] = sums[chunk * 16 + i];
}

template <int kRows>
__device__ __forceinline__ void StorePanel(const PanelGemmArgs& args,
                                           int32_t panel,
                                           const float (&sums)[kRows / 2],
                                           uint32_t turn) {
  // One kind at a time, so that the instructions of chunks mix.
  const auto store = [&](const auto& store_chunk) {
#pragma unroll
    for (int chunk = 0; chunk < kRows / panel::kChunkRows; ++chunk) {
      float sixteen[16];
      ChunkOf<kRows>(sums, chunk, sixteen);
      store_chunk(panel * kRows + chunk * panel::kChunkRows, sixteen);
    }
  };
  if (args.is_gated) {
    store([&](int32_t first_row, const float(&sixteen)[16]) {
      panel::StoreGated(args, first_row, sixteen);
    });
  } else if (args.y_is_float) {
    store([&](int32_t first_row, float(&sixteen)[16]) {
      panel::AddBias(args, first_row, sixteen);
      panel::StoreFloats(args, first_row, sixteen);
    });
  } else {
    store([&](int32_t first_row, float(&sixteen)[16]) {
      panel::OldChunk old(turn);
      old.Load(args, first_row);
      panel::AddBias(args, first_row, sixteen);
      panel::StoreRows(args, first_row, sixteen, old);
    });
  }
}

// Where four of a thread's sums, of group `group` of a block's, are: neighbours
// next to each other.
template <int kRows>
__device__ __forceinline__ uint4* PartialOf(const PanelGemmArgs& args,
                                            int32_t block, int group) {
  return reinterpret_cast<uint4*>(args.partials) +
         (block * (kRows / 8) + group) * kConsumers + threadIdx.x;
}

// Adds what all splits of a panel have of a chunk, in their order.
template <int kRows>
__device__ __forceinline__ void SumChunk(const PanelGemmArgs& args,
                                         int32_t first_block, int chunk,
                                         float (&sums)[16]) {
  constexpr int kAtOnce = kRows <= 192 ? 4 : 2;  // as registers allow
#pragma unroll
  for (int i = 0; i < 16; ++i) sums[i] = 0.0f;
#pragma unroll 1
  for (int32_t split = 0; split < args.splits; split += kAtOnce) {
    uint4 parts[kAtOnce * 4];
    const auto place = [&](int i) {
      return PartialOf<kRows>(args,
                              first_block + min(split + i / 4, args.splits - 1),
                              chunk * 4 + i % 4);
    };
    left::Find(place, parts);
#pragma unroll
    for (int i = 0; i < kAtOnce * 4; ++i) {
      if (split + i / 4 >= args.splits) break;
      left::Take(place(i), parts[i], &sums[i % 4 * 4]);
    }
  }
}

// Splits of a panel exchange their sums: each stores some of its chunks.
template <int kRows>
__device__ void StoreSplitPanel(const PanelGemmArgs& args, const Work& work,
                                const float (&sums)[kRows / 2], uint32_t turn) {
  constexpr int kChunks = kRows / panel::kChunkRows;
  // Warps whose tokens are beyond the end have nothing to tell.
  if (static_cast<int32_t>(threadIdx.x) / 32 * 16 >= args.m) return;
#pragma unroll
  for (int group = 0; group < kRows / 8; ++group) {
    left::Leave(&sums[group * 4], PartialOf<kRows>(args, blockIdx.x, group));
  }
  const int begin = work.split * kChunks / args.splits;
  const int end = (work.split + 1) * kChunks / args.splits;
#pragma unroll 1
  for (int chunk = begin; chunk < end; ++chunk) {
    const int32_t first_row = work.first * kRows + chunk * panel::kChunkRows;
    panel::OldChunk old(turn);
    old.Load(args, first_row);
    float sixteen[16];
    SumChunk<kRows>(args, static_cast<int32_t>(blockIdx.x) - work.split, chunk,
                    sixteen);
    panel::StoreChunk(args, first_row, sixteen, old);
  }
}

template <int kRows>
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
    MultiplyPieces<kRows>(shared, work.count, ring, sums);
    if (args.splits == 1) {
      StorePanel<kRows>(args, panel, sums, turn);
    } else {
      StoreSplitPanel<kRows>(args, work, sums, turn);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    PanelGemmKernel(const __grid_constant__ CUtensorMap w,
                    const __grid_constant__ CUtensorMap x,
                    const __grid_constant__ PanelGemmArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = Layout<kRows>;
  extern __shared__ uint8_t raw[];
  __shared__ uint64_t full[L::kStages];
  __shared__ uint64_t empty[L::kStages];
  const Shared<kRows> shared = {
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
  const Work work(args);
  if (threadIdx.x < kConsumers) {
    Consume<kRows>(args, work, shared);
  } else if (threadIdx.x == kConsumers) {
    FeedWeights<kRows>(w, args, work, shared);
  } else if (threadIdx.x == kConsumers + 32) {
    FeedRows<kRows>(x, args, work, shared);
  }
#endif
}

template <int kRows>
cudaError_t Prepare() {
  // For each device, which is one thread's.
  thread_local const cudaError_t prepared = cudaFuncSetAttribute(
      PanelGemmKernel<kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize,
      Layout<kRows>::kBytes);
  return prepared;
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
                            int32_t num_blocks, cudaStream_t stream) {
  return WithRows(rows, [&](auto constant) {
    constexpr int kRows = constant;
    const cudaError_t prepared = Prepare<kRows>();
    if (prepared != cudaSuccess) return prepared;
    return LaunchOverlapped(PanelGemmKernel<kRows>, dim3(num_blocks),
                            dim3(kThreads), Layout<kRows>::kBytes, stream, w, x,
                            args);
  });
}

}  // namespace quire
