// SPDX-License-Identifier: Apache-2.0
//
// What each block of a product of some rows has to do, and how pieces of the
// weight and of x come into its shared memory, in a ring of stages.
#ifndef KERNELS_CUDA_PANEL_STAGES_CUH_
#define KERNELS_CUDA_PANEL_STAGES_CUH_

#include <cstdint>

#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/panel_norm.cuh"
#include "kernels/cuda/stage_ring.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace quire::panel {

constexpr int kConsumers = 256;  // two warpgroups, 64 tokens each
constexpr int kWarps = kConsumers / 32;
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

// What a block has to do: `count` pieces from column `first_col` on, of panel
// `first` and of every `step`th after it, for tokens from `first_token` on.
struct Work {
  int32_t part;  // of the tokens
  int32_t first_token;
  int32_t split;
  int32_t first_col;
  int32_t count;
  int32_t first;
  int32_t step;

  template <int kTokenParts>
  __device__ static Work Of(const PanelGemmArgs& args) {
    Work work;
    const int32_t cluster = static_cast<int32_t>(blockIdx.x) / kTokenParts;
    work.part = static_cast<int32_t>(blockIdx.x) - cluster * kTokenParts;
    work.first_token = work.part * kPanelTokens;
    work.first = cluster / args.splits;
    work.split = cluster - work.first * args.splits;
    const int32_t begin = work.split * args.num_units / args.splits;
    const int32_t end = (work.split + 1) * args.num_units / args.splits;
    work.first_col = begin * kPanelCols;
    work.count = end - begin;
    work.step = static_cast<int32_t>(gridDim.x) / (kTokenParts * args.splits);
    return work;
  }
};

template <int kRows>
struct Shared {
  uint8_t* stages;
  uint64_t* full;
  uint64_t* empty;  // of the whole cluster, whose blocks copy into all stages
  RowFactors factors;

  __device__ uint8_t* w(int stage) const {
    return stages + stage * Layout<kRows>::kStageBytes;
  }
  __device__ uint8_t* x(int stage) const {
    return w(stage) + Layout<kRows>::kWBytes;
  }
};

// A stage may be written again once all consumers of the cluster are done with
// it.
template <int kRows, int kTokenParts>
__device__ __forceinline__ void Release(const Shared<kRows>& shared,
                                        int stage) {
  const int lane = threadIdx.x % 32;
  if constexpr (kTokenParts == 1) {
    if (lane == 0) hopper::Arrive(&shared.empty[stage]);
  } else {
    if (lane < kTokenParts) hopper::ArriveAt(&shared.empty[stage], lane);
  }
}

// Calls `copy` with each piece's column, panel and stage, when that is empty.
// Returns when nobody will tell this block's barriers any more, if it is one of
// a pair.
template <int kRows, int kTokenParts, typename Copy>
__device__ __forceinline__ void FeedPieces(const PanelGemmArgs& args,
                                           const Work& work,
                                           const Shared<kRows>& shared,
                                           const Copy& copy) {
  using L = Layout<kRows>;
  hopper::Ring<L::kStages> ring;
  int32_t fed = 0;
#pragma unroll 1
  for (int32_t panel = work.first; panel < args.num_panels;
       panel += work.step) {
#pragma unroll 1
    for (int32_t i = 0; i < work.count; ++i, ++fed) {
      if (fed >= L::kStages) {
        hopper::Wait(&shared.empty[ring.stage], ring.parity ^ 1);
      }
      copy(work.first_col + i * kPanelCols, panel, ring.stage);
      ring.Next();
    }
  }
  if constexpr (kTokenParts > 1) {
    hopper::AwaitReaders(shared.empty, ring, fed);
  }
}

// One thread feeds weights, of a pair of blocks half of them to both. They do
// not depend on the kernel before, so that the first of them are on their way
// while that one ends.
template <int kRows, int kTokenParts>
__device__ void FeedWeights(const CUtensorMap& w, const PanelGemmArgs& args,
                            const Work& work, const Shared<kRows>& shared) {
  using L = Layout<kRows>;
  const uint64_t once = hopper::EvictFirst();
  const int stage_bytes = L::kWBytes + args.x_rows * kRowBytes;
  const int first_row = kRows / kTokenParts * work.part;
  FeedPieces<kRows, kTokenParts>(
      args, work, shared, [&](int32_t col, int32_t panel, int stage) {
        uint64_t* const full = &shared.full[stage];
        uint8_t* const to = shared.w(stage) + first_row * kRowBytes;
        const int32_t row = panel * kRows + first_row;
        hopper::Expect(full, stage_bytes);
        if constexpr (kTokenParts == 1) {
          hopper::CopyBox(w, col, row, to, full, once);
        } else {
          constexpr uint16_t kBothRanks = 3;
          hopper::CopyBoxToBlocks(kBothRanks, w, col, row, to, full, once);
        }
      });
}

// Another the rows of x. Their bytes, and the other block's, may be there
// before they are expected: the phase waits for the arrival all the same.
template <int kRows>
__device__ void FeedRows(const CUtensorMap& x, const PanelGemmArgs& args,
                         const Work& work, const Shared<kRows>& shared) {
  const uint64_t again = hopper::EvictLast();
  hopper::PrefetchMap(x);
  WaitForEarlierKernels();
  // Weights' thread waits for all readers.
  FeedPieces<kRows, /*kTokenParts=*/1>(
      args, work, shared, [&](int32_t col, int32_t /*panel*/, int stage) {
        hopper::CopyBox(x, col, work.first_token, shared.x(stage),
                        &shared.full[stage], again);
      });
}

}  // namespace quire::panel

#endif  // KERNELS_CUDA_PANEL_STAGES_CUH_
