// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/nucleus_choice.h"
#include "kernels/cuda/nucleus_draw.cuh"
#include "kernels/cuda/nucleus_item.cuh"
#include "kernels/cuda/nucleus_row.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire {
namespace {

using nucleus::Depths;
using nucleus::IndexOf;
using nucleus::Item;
using nucleus::kCopies;
using nucleus::kEndStep;
using nucleus::kPerThread;
using nucleus::kThreads;
using nucleus::LoadChunk;
using nucleus::NumRows;
using nucleus::Shared;
using nucleus::Split;
using sampling::Best;
using sampling::FilteredRow;

int32_t NumBlocks(const NucleusParams& params, int32_t num_sms) {
  const int64_t chunks = std::max(row_scan::NumChunks(params.num_vocab), 1);
  return static_cast<int32_t>(
      std::min<int64_t>(2 * num_sms, params.num_rows * chunks));
}

int64_t NumArrivalWords(int32_t num_rows) {
  return (int64_t{num_rows} + 3) / 4 * 4;
}

__device__ __forceinline__ void FindLargest(const NucleusParams& params,
                                            const Split& split,
                                            const Item& item, Shared* shared) {
  const FilteredRow row = RowOf(params, split, item);
  float largest = -INFINITY;  // +infinity: also of a NaN
  for (int chunk = item.begin; chunk < item.end; ++chunk) {
    float raw[kPerThread];
    LoadChunk(row, chunk, raw);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      largest = isnan(raw[i]) ? INFINITY : fmaxf(largest, raw[i]);
    }
  }
  largest = cuda::BlockMax(largest, shared->floats);
  float* const all = split.largest + int64_t{item.row} * item.num_parts;
  if (threadIdx.x == 0) all[item.part] = largest;
  if (!ArriveLast(split, item, shared)) return;
  __syncthreads();
  for (int i = threadIdx.x; i < item.num_parts; i += kThreads) {
    largest = fmaxf(largest, __ldcg(all + i));
  }
  largest = cuda::BlockMax(largest, shared->floats);
  if (threadIdx.x != 0) return;
  static_cast<float*>(params.said)[item.row] =
      largest == INFINITY ? NAN : largest + 0.0f;
}

// The bin of a depth, or -1: not where the nucleus ends.
template <int kDigit>
__device__ __forceinline__ int BinOf(const Depths& depths, uint32_t step) {
  constexpr int kBelow = nucleus::kBits * (2 - kDigit);  // bits after the digit
  const int bin = static_cast<int>(step >> kBelow & (kNucleusBins - 1));
  if (kDigit == 0) return step < kEndStep ? bin : -1;
  return step >> (kBelow + nucleus::kBits) == depths.prefix ? bin : -1;
}

// A weight is added in two parts, so that no sum of a few chunks is lost.
constexpr int kLowBits = 15;
constexpr int kChunksAtOnce = 4;
static_assert(int64_t{kChunksAtOnce} * row_scan::kChunk << (31 - kLowBits) <
              int64_t{1} << 32);

__device__ __forceinline__ void Empty(Shared* shared) {
  for (int i = threadIdx.x; i < kNucleusBins * kCopies; i += kThreads) {
    shared->low[i] = shared->high[i] = 0;
  }
  __syncthreads();
}

// Yields what this thread's bin has got, and empties all.
__device__ __forceinline__ uint64_t TakeBin(Shared* shared) {
  __syncthreads();
  uint64_t sum = 0;
  if (threadIdx.x < kNucleusBins) {
#pragma unroll
    for (int copy = 0; copy < kCopies; ++copy) {
      const int at = threadIdx.x * kCopies + copy;
      sum += (uint64_t{shared->high[at]} << kLowBits) + shared->low[at];
    }
  }
  __syncthreads();
  Empty(shared);
  return sum;
}

// What the item's chunks weigh; thread i gets bin i's.
template <int kDigit>
__device__ __forceinline__ uint64_t WeightsOf(const FilteredRow& row,
                                              const Depths& depths,
                                              const Item& item,
                                              Shared* shared) {
  Empty(shared);
  uint64_t sum = 0;
  for (int chunk = item.begin; chunk < item.end; ++chunk) {
    float raw[kPerThread];
    LoadChunk(row, chunk, raw);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const uint32_t step = depths.StepOf(raw[i]);
      const int bin = BinOf<kDigit>(depths, step);
      if (bin < 0 || !depths.IsLikely(raw[i])) continue;
      const uint32_t weight =
          nucleus::WeightOf(step % nucleus::kStepsPerEighth);
      // Neighbours have copies of their own: they are often of one bin.
      const int at = bin * kCopies + threadIdx.x % kCopies;
      atomicAdd(&shared->low[at], weight & ((1u << kLowBits) - 1));
      atomicAdd(&shared->high[at], weight >> kLowBits);
    }
    if ((chunk - item.begin) % kChunksAtOnce == kChunksAtOnce - 1) {
      sum += TakeBin(shared);
    }
  }
  return sum + TakeBin(shared);
}

template <NucleusStage kStage>
__device__ __forceinline__ void Weigh(const NucleusParams& params,
                                      const Split& split, const Item& item,
                                      Shared* shared) {
  constexpr int kDigit =
      static_cast<int>(kStage) - static_cast<int>(NucleusStage::kEighths);
  const FilteredRow row = RowOf(params, split, item);
  nucleus::Advance<kStage>(params, item.row, item.part == 0, row, shared);
  if (shared->state.error != 0 || !row.has_top_p()) return;
  const Depths depths = nucleus::DepthsOf(row, shared->state);
  uint64_t sum = WeightsOf<kDigit>(row, depths, item, shared);
  const int64_t at = int64_t{item.row} * kNucleusBins + threadIdx.x;
  const bool has_bin = threadIdx.x < kNucleusBins;
  if (item.num_parts > 1) {
    if (has_bin && sum > 0) atomicAdd(split.bins + at, sum);
    if (!ArriveLast(split, item, shared)) return;
    if (has_bin) {
      sum = __ldcg(split.bins + at);
      split.bins[at] = 0;
    }
  }
  if (!has_bin) return;
  static_cast<NucleusBin*>(params.said)[at] = {
      static_cast<uint32_t>(sum & 0x7fffffff),
      static_cast<uint32_t>(sum >> 31)};
}

template <NucleusStage kStage>
__global__ void __launch_bounds__(kThreads, 2)
    StageKernel(const __grid_constant__ NucleusParams params,
                const __grid_constant__ Split split) {
  __shared__ Shared shared;
  ForEachItem(params, split, [&](const Item& item) {
    if constexpr (kStage == NucleusStage::kLargest) {
      FindLargest(params, split, item, &shared);
    } else if constexpr (kStage == NucleusStage::kDraw) {
      Draw(params, split, item, &shared);
    } else {
      Weigh<kStage>(params, split, item, &shared);
    }
  });
}

// What a shard has drawn of a row.
__device__ __forceinline__ Best DrawOf(const NucleusParams& params, int row,
                                       int shard, const ShapedRow& shaped) {
  const nucleus::Heard heard = {params.heard, params.num_shards,
                                params.num_rows, row};
  const ListedToken draw = heard.Of<ListedToken>(shard);
  if (draw.token_id < 0) return {-INFINITY, -1};
  const uint32_t word =
      TokenRandomWord(shaped.seed, shaped.position, draw.token_id);
  return {draw.logit + sampling::Gumbel(sampling::UniformOf(word)),
          draw.token_id};
}

// As many threads a row as there are shards, or the next power of two; of more
// than a warp has a thread looks at several.
__global__ void __launch_bounds__(kThreads)
    TokenKernel(const __grid_constant__ NucleusParams params,
                const __grid_constant__ NucleusPicks picks,
                int threads_per_row) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int num_rows = NumRows(params, picks);
  const int thread = threadIdx.x % threads_per_row;
  const int step = gridDim.x * kThreads / threads_per_row;
  int row = (blockIdx.x * kThreads + threadIdx.x) / threads_per_row;
  const NucleusState* const states =
      params.states + static_cast<int>(NucleusStage::kDraw) * params.num_rows;
  // A warp goes on while one of its threads has a row.
  for (; __any_sync(0xffffffffu, row < num_rows); row += step) {
    const int at = min(row, num_rows - 1);
    const ShapedRow& shaped = params.rows[IndexOf(picks, at)];
    const int32_t error = states[at].error;
    const int num_draws = error == 0 ? params.num_shards : 0;
    Best best = {-INFINITY, -1};
    for (int shard = thread; shard < num_draws; shard += threads_per_row) {
      const Best draw = DrawOf(params, at, shard, shaped);
      if (IsBetter(draw, best)) best = draw;
    }
    for (int offset = threads_per_row / 2; offset > 0; offset /= 2) {
      const Best other = {__shfl_xor_sync(0xffffffffu, best.value, offset),
                          __shfl_xor_sync(0xffffffffu, best.id, offset)};
      if (IsBetter(other, best)) best = other;
    }
    if (thread != 0 || row >= num_rows) continue;
    const int32_t token = error == 0 ? best.id : error;
    params.tokens[shaped.row] = token;
    params.by_slot[shaped.slot] = token;
  }
  if (picks.rows == nullptr) return;
  __syncthreads();
  if (threadIdx.x == 0) *picks.count = 0;
}

cudaError_t LaunchToken(const NucleusParams& params, const NucleusPicks& picks,
                        cudaStream_t stream) {
  int32_t threads = 1;
  while (threads < params.num_shards && threads < cuda::kWarp) threads *= 2;
  // One block alone can tell when all have read how many picks there are.
  const int32_t blocks =
      picks.rows == nullptr
          ? (params.num_rows * threads + kThreads - 1) / kThreads
          : 1;
  return LaunchOverlapped(TokenKernel, dim3(blocks), dim3(kThreads), 0, stream,
                          params, picks, threads);
}

}  // namespace

int64_t NucleusCounters(int32_t num_rows) {
  return NumArrivalWords(num_rows) + int64_t{num_rows} * kNucleusBins * 2;
}

int64_t NucleusWorkspaceBytes(const NucleusParams& params, int32_t num_sms) {
  return std::max(params.num_rows, NumBlocks(params, num_sms)) *
         int64_t{sizeof(Best)};
}

cudaError_t LaunchNucleusCuda(const NucleusParams& params,
                              const NucleusPicks& picks, int32_t* counters,
                              void* workspace, int32_t num_sms,
                              cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  const Split split = {row_scan::NumChunks(params.num_vocab),
                       picks,
                       counters,
                       reinterpret_cast<unsigned long long*>(
                           counters + NumArrivalWords(params.num_rows)),
                       static_cast<float*>(workspace),
                       static_cast<Best*>(workspace)};
  const auto launch = [&](auto* kernel) {
    return LaunchOverlapped(kernel, dim3(NumBlocks(params, num_sms)),
                            dim3(kThreads), 0, stream, params, split);
  };
  switch (params.stage) {
    case NucleusStage::kLargest:
      return launch(StageKernel<NucleusStage::kLargest>);
    case NucleusStage::kEighths:
      return launch(StageKernel<NucleusStage::kEighths>);
    case NucleusStage::kMiddle:
      return launch(StageKernel<NucleusStage::kMiddle>);
    case NucleusStage::kSteps:
      return launch(StageKernel<NucleusStage::kSteps>);
    case NucleusStage::kDraw:
      return launch(StageKernel<NucleusStage::kDraw>);
    case NucleusStage::kToken:
      break;
  }
  return LaunchToken(params, picks, stream);
}

}  // namespace quire
