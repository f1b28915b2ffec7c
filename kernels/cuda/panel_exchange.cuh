// SPDX-License-Identifier: Apache-2.0
//
// Sums of splits of a panel, exchanged through memory: each split's block adds
// and stores some of the panel's chunks.
#ifndef KERNELS_CUDA_PANEL_EXCHANGE_CUH_
#define KERNELS_CUDA_PANEL_EXCHANGE_CUH_

#include <cstdint>

#include "kernels/cuda/left_sums.cuh"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/panel_norm.cuh"
#include "kernels/cuda/panel_stages.cuh"
#include "kernels/cuda/panel_store.cuh"

namespace quire::panel {

// Chunks [begin, end) are those of one split.
template <int kRows>
struct ChunksOf {
  static constexpr int kChunks = kRows / kChunkRows;
  int begin;
  int end;

  __device__ ChunksOf(const PanelGemmArgs& args, int split)
      : begin(split * kChunks / args.splits),
        end((split + 1) * kChunks / args.splits) {}
};

// Where four of a thread's sums of a chunk are, of those that a block leaves:
// neighbours next to each other.
template <int kRows>
__device__ __forceinline__ uint4* LeftAt(const PanelGemmArgs& args,
                                         int32_t block, int chunk, int four) {
  return reinterpret_cast<uint4*>(args.partials) +
         (block * (kRows / 8) + chunk * 4 + four) * kConsumers + threadIdx.x;
}

// The same of a block's own, in place of its stages.
template <int kRows>
__device__ __forceinline__ float4* OwnAt(const Shared<kRows>& shared, int chunk,
                                         int four) {
  return reinterpret_cast<float4*>(shared.stages) +
         (chunk * 4 + four) * kConsumers + threadIdx.x;
}

// Of the consumers.
__device__ __forceinline__ void SyncConsumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory");
}

// Leaves each split its chunks: first the next one, so that all have one who
// leaves sums for them.
template <int kRows>
__device__ __forceinline__ void LeaveChunks(const PanelGemmArgs& args,
                                            const Work& work,
                                            const Shared<kRows>& shared,
                                            const float (&sums)[kRows / 2]) {
#pragma unroll 1
  for (int i = 1; i <= args.splits; ++i) {
    const int split = (work.split + i) % args.splits;
    const ChunksOf<kRows> theirs(args, split);
#pragma unroll
    for (int chunk = 0; chunk < ChunksOf<kRows>::kChunks; ++chunk) {
      if (chunk < theirs.begin || chunk >= theirs.end) continue;
#pragma unroll
      for (int four = 0; four < 4; ++four) {
        const float* from = &sums[chunk * 16 + four * 4];
        if (split == work.split) {
          *OwnAt(shared, chunk, four) =
              make_float4(from[0], from[1], from[2], from[3]);
        } else {
          left::Leave(from, LeftAt<kRows>(args, blockIdx.x, chunk, four));
        }
      }
    }
  }
}

// Where three of the splits after this one leave their sums, from the
// `first`th after it on, and how many of the three there are.
template <int kRows>
struct Others {
  static constexpr int kAtOnce = 3;
  uint4* from[kAtOnce];
  int count;

  __device__ __forceinline__ Others(const PanelGemmArgs& args, const Work& work,
                                    int first)
      : count(args.splits - first) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      int step = first + i;
      if (work.split + step >= args.splits) step -= args.splits;
      from[i] = LeftAt<kRows>(
          args, static_cast<int32_t>(blockIdx.x) + step * args.token_parts,
          /*chunk=*/0, /*four=*/0);
    }
  }

  __device__ __forceinline__ uint4* At(int chunk, int i) const {
    return from[i / 4] + (chunk * 4 + i % 4) * kConsumers;
  }
};

// What they leave of a chunk.
template <int kRows>
struct OthersChunk {
  static constexpr int kAtOnce = Others<kRows>::kAtOnce;
  uint4 words[kAtOnce * 4];

  __device__ __forceinline__ void Look(const Others<kRows>& others, int chunk) {
#pragma unroll
    for (int i = 0; i < kAtOnce * 4; ++i) {
      words[i] = i / 4 < others.count ? left::LoadWords(others.At(chunk, i))
                                      : make_uint4(0, 0, 0, 0);
    }
  }

  __device__ __forceinline__ void Add(const Others<kRows>& others, int chunk,
                                      float (&sums)[16]) {
    const auto at = [&](int i) { return others.At(chunk, i); };
    left::FindMissing(at, words);
#pragma unroll
    for (int i = 0; i < kAtOnce * 4; ++i) {
      if (i / 4 >= others.count) break;
      left::Take(at(i), words[i], &sums[i % 4 * 4]);
    }
  }
};

// All splits' sums of this split's chunks into y: its own first, those of the
// splits after it in their order.
template <int kRows, bool kFolds>
__device__ __forceinline__ void ExchangeAndStore(const PanelGemmArgs& args,
                                                 const Work& work,
                                                 const Shared<kRows>& shared,
                                                 const float (&sums)[kRows / 2],
                                                 const TokenFactors& factors,
                                                 uint32_t turn) {
  constexpr int kAtOnce = Others<kRows>::kAtOnce;
  SyncConsumers();  // the stages are read
  // Warps whose tokens are beyond the end have nothing to tell.
  if (work.first_token + static_cast<int32_t>(threadIdx.x) / 32 * 16 >= args.m)
    return;
  LeaveChunks<kRows>(args, work, shared, sums);
  const ChunksOf<kRows> mine(args, work.split);
  const Others<kRows> nearest(args, work, /*first=*/1);
#pragma unroll 1
  for (int chunk = mine.begin; chunk < mine.end; ++chunk) {
    const Place place = {work.first * kRows + chunk * kChunkRows,
                         work.first_token};
    OthersChunk<kRows> theirs;
    theirs.Look(nearest, chunk);
    OldChunk<kFolds> old(turn);
    old.Load(args, place);
    float sixteen[16];
#pragma unroll
    for (int four = 0; four < 4; ++four) {
      const float4 own = *OwnAt(shared, chunk, four);
      sixteen[four * 4] = own.x;
      sixteen[four * 4 + 1] = own.y;
      sixteen[four * 4 + 2] = own.z;
      sixteen[four * 4 + 3] = own.w;
    }
    theirs.Add(nearest, chunk, sixteen);
#pragma unroll 1
    for (int first = 1 + kAtOnce; first < args.splits; first += kAtOnce) {
      const Others<kRows> more(args, work, first);
      theirs.Look(more, chunk);
      theirs.Add(more, chunk, sixteen);
    }
    if constexpr (kFolds) factors.Scale(sixteen);
    StoreChunk(args, place, sixteen, old);
  }
}

}  // namespace quire::panel

#endif  // KERNELS_CUDA_PANEL_EXCHANGE_CUH_
