// SPDX-License-Identifier: Apache-2.0
//
// One row of a nucleus choice: how deep its columns lie, what they weigh, and
// what the shards' sums say of where the nucleus ends.
#ifndef KERNELS_CUDA_NUCLEUS_ROW_CUH_
#define KERNELS_CUDA_NUCLEUS_ROW_CUH_

#include <cstdint>

#include "kernels/cuda/filtered_row.cuh"
#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/scan_filtered.cuh"
#include "kernels/nucleus_choice.h"

namespace quire::nucleus {

using row_scan::kPerThread;
using row_scan::kThreads;
using sampling::FilteredRow;

constexpr int kBits = 8;  // that a round adds to what is known of a depth
constexpr uint32_t kEndStep = 1u << kNucleusStepBits;
constexpr uint32_t kStepsPerEighth = 1u << 2 * kBits;
static_assert(kNucleusBins == 1 << kBits && 3 * kBits == kNucleusStepBits);

// From a sum of weights of one eighth to probabilities that compare with other
// eighths'.
__device__ __forceinline__ double ScaleOf(uint32_t eighths) {
  return exp(-0.125 * static_cast<double>(eighths));
}

// A token's weight (NucleusBin) by the steps beyond its eighth: exp's series,
// within 1e-7 of itself.
__device__ __forceinline__ uint32_t WeightOf(uint32_t steps) {
  const float x = static_cast<float>(steps) * (-1.0f / kStepsPerNat);
  float sum = fmaf(x, 1.0f / 120, 1.0f / 24);
  sum = fmaf(x, sum, 1.0f / 6);
  sum = fmaf(x, sum, 0.5f);
  sum = fmaf(x, sum, 1.0f);
  sum = fmaf(x, sum, 1.0f);
  return __float2uint_rn(sum * 0x1p31f);
}

// A row as one stage looks at its columns.
struct Depths {
  float max;
  float scale;      // steps of depth for each of the logit's
  float divisor;    // of the logit
  double least;     // that min_p leaves
  uint32_t prefix;  // of the depth where the nucleus ends

  // Saturates: -infinity lies deepest.
  __device__ __forceinline__ uint32_t StepOf(float raw) const {
    return __float2uint_rd(__fmul_rn(__fsub_rn(max, raw), scale));
  }
  __device__ __forceinline__ bool IsLikely(float raw) const {
    return least == -INFINITY || raw / divisor >= least;
  }
};

__device__ __forceinline__ Depths DepthsOf(const FilteredRow& row,
                                           const NucleusState& state) {
  return {state.max, row.inverse * kStepsPerNat, row.divisor,
          row.min_p > 0
              ? state.max / row.divisor + log(static_cast<double>(row.min_p))
              : -INFINITY,
          state.prefix};
}

// What all shards said of a row in the stage before.
struct Heard {
  const void* base;
  int32_t num_shards, num_rows, row;

  template <typename T>
  __device__ __forceinline__ T Of(int shard, int bin = 0, int bins = 1) const {
    return static_cast<const T*>(
        base)[(int64_t{shard} * num_rows + row) * bins + bin];
  }
};

__device__ __forceinline__ uint64_t WeightIn(const Heard& heard, int shard,
                                             int bin) {
  const NucleusBin found = heard.Of<NucleusBin>(shard, bin, kNucleusBins);
  return (uint64_t{found.high} << 31) + found.low;
}

// Of each bin, while a block adds to it.
constexpr int kCopies = 4;

// A block's working memory.
struct Shared {
  NucleusState state;
  double doubles[cuda::kWarp];
  uint32_t low[kNucleusBins * kCopies], high[kNucleusBins * kCopies];
  sampling::Best best[cuda::kWarp];
  float floats[cuda::kWarp];
  int32_t first, end, is_last;
};

// By thread 0.
__device__ __forceinline__ void BeginState(const FilteredRow& row,
                                           const Heard& heard,
                                           NucleusState* state) {
  *state = {-INFINITY, 0, 0, 0, 0, 0};
  double sum = 0;
  for (int shard = 0; shard < heard.num_shards; ++shard) {
    const float largest = heard.Of<float>(shard);
    if (isnan(largest)) sum = NAN;
    state->max = fmaxf(state->max, largest);
  }
  state->error = sampling::ErrorOf(row, {state->max, sum});
}

// How many of `count` equal tokens it takes until their nucleus is complete.
__device__ __forceinline__ int32_t TiesOf(const NucleusState& state,
                                          double each, uint64_t count) {
  const double ties = ceil((state.needed - state.above) / each);
  return static_cast<int32_t>(
      fmin(fmax(ties, 1.0), static_cast<double>(count)));
}

// Adds to the prefix the bin where the nucleus ends: the last that is not empty
// and before which the weight falls short. `kDigit`: which of the depth's three
// it is. All threads of the block call it.
template <int kDigit>
__device__ __forceinline__ void Refine(const FilteredRow& row,
                                       const Heard& heard, Shared* shared) {
  const NucleusState before = shared->state;
  const int bin = threadIdx.x;
  uint64_t sum = 0;
  if (bin < kNucleusBins) {
    for (int shard = 0; shard < heard.num_shards; ++shard) {
      sum += WeightIn(heard, shard, bin);
    }
  }
  const uint32_t eighths =
      kDigit == 0 ? bin : before.prefix >> kBits * (kDigit - 1);
  const double scale = ScaleOf(eighths);
  if (threadIdx.x == 0) {
    shared->first = kNucleusBins;
    shared->end = -1;
  }
  double total;
  const double above =
      before.above + sampling::SumBefore(static_cast<double>(sum) * scale,
                                         shared->doubles, &total);
  const double needed = kDigit == 0 ? row.top_p * total : before.needed;
  if (sum > 0) atomicMin(&shared->first, bin);
  if (sum > 0 && above < needed) atomicMax(&shared->end, bin);
  __syncthreads();
  // With a top_p of 0 no weight falls short.
  if (bin != max(shared->first, shared->end)) return;
  NucleusState& state = shared->state;
  state.prefix = before.prefix << kBits | bin;
  state.above = above;
  state.needed = needed;
  if (kDigit < 2) return;
  const uint32_t each = WeightOf(state.prefix % kStepsPerEighth);
  state.num_ties = TiesOf(state, each * scale, sum / each);
}

// What the stage begins with, in shared->state, from the state and the words of
// the one before; the first of the row's blocks notes it. All threads of the
// block call it.
template <NucleusStage kStage>
__device__ __forceinline__ void Advance(const NucleusParams& params, int index,
                                        bool is_first, const FilteredRow& row,
                                        Shared* shared) {
  const int at = static_cast<int>(kStage);
  const Heard heard = {params.heard, params.num_shards, params.num_rows, index};
  if (threadIdx.x == 0) {
    if (kStage == NucleusStage::kEighths && params.heard != nullptr) {
      BeginState(row, heard, &shared->state);
    } else {
      shared->state = params.states[(at - 1) * params.num_rows + index];
    }
  }
  __syncthreads();
  if (shared->state.error == 0 && row.has_top_p()) {
    if (kStage == NucleusStage::kMiddle) Refine<0>(row, heard, shared);
    if (kStage == NucleusStage::kSteps) Refine<1>(row, heard, shared);
    if (kStage == NucleusStage::kDraw) Refine<2>(row, heard, shared);
  }
  __syncthreads();
  if (is_first && threadIdx.x == 0) {
    params.states[at * params.num_rows + index] = shared->state;
  }
}

}  // namespace quire::nucleus

#endif  // KERNELS_CUDA_NUCLEUS_ROW_CUH_
