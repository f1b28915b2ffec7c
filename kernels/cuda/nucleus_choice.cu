// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/nucleus_choice.h"
#include "kernels/cuda/nucleus_row.cuh"

namespace quire {
namespace {

using nucleus::Depths;
using nucleus::kEndStep;
using nucleus::kPerThread;
using nucleus::kThreads;
using nucleus::Shared;
using row_scan::ColumnAt;
using row_scan::EntryOf;
using sampling::FilteredRow;
using sampling::Noisy;

// How blocks share rows, and what they leave for the last of a row to arrive.
struct Split {
  int32_t num_chunks;
  int32_t num_splits;  // blocks of a row
  int32_t* arrivals;   // [num_rows] blocks that are done; 0 between launches
  unsigned long long* bins;  // [num_rows, kNucleusBins]; 0 between launches
  float* largest;            // [num_rows, num_splits]
  Noisy* draws;              // [num_rows, num_splits]
};

int32_t NumSplits(const NucleusParams& params, int32_t num_sms) {
  const int32_t chunks = row_scan::NumChunks(params.num_vocab);
  const int32_t blocks =
      2 * num_sms / (params.num_rows < 1 ? 1 : params.num_rows);
  const int32_t splits = blocks < chunks ? blocks : chunks;
  return splits < 1 ? 1 : splits;
}

int64_t NumArrivalWords(int32_t num_rows) {
  return (int64_t{num_rows} + 3) / 4 * 4;
}

struct ChunkRange {
  int begin, end;
};

__device__ __forceinline__ ChunkRange MyChunks(const Split& split) {
  const int each = (split.num_chunks + split.num_splits - 1) / split.num_splits;
  const int begin = min(static_cast<int>(blockIdx.x) * each, split.num_chunks);
  return {begin, min(begin + each, split.num_chunks)};
}

// Whether this block is its row's last; what others wrote is there then. All
// threads call it.
__device__ __forceinline__ bool ArriveLast(const Split& split, Shared* shared) {
  if (split.num_splits == 1) return true;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const int before = atomicAdd(&split.arrivals[blockIdx.y], 1);
    shared->is_last = before == split.num_splits - 1;
    if (shared->is_last) split.arrivals[blockIdx.y] = 0;
    __threadfence();
  }
  __syncthreads();
  return shared->is_last;
}

__device__ __forceinline__ FilteredRow MyRow(const NucleusParams& params) {
  return sampling::RowAt(params.logits, params.num_vocab, /*allowed=*/nullptr,
                         params.rows[blockIdx.y]);
}

template <typename T>
__device__ __forceinline__ T* Said(const NucleusParams& params) {
  return static_cast<T*>(params.said) + blockIdx.y;
}

__global__ void __launch_bounds__(kThreads, 2)
    LargestKernel(const __grid_constant__ NucleusParams params,
                  const __grid_constant__ Split split) {
  __shared__ Shared shared;
  const FilteredRow row = MyRow(params);
  const auto [begin, end] = MyChunks(split);
  float largest = -INFINITY;  // +infinity: also of a NaN
  for (int chunk = begin; chunk < end; ++chunk) {
    float raw[kPerThread];
    row_scan::LoadChunk(row.row, chunk, raw);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      largest = isnan(raw[i]) ? INFINITY : fmaxf(largest, raw[i]);
    }
  }
  largest = cuda::BlockMax(largest, shared.floats);
  const int64_t first = int64_t{blockIdx.y} * split.num_splits;
  if (threadIdx.x == 0) split.largest[first + blockIdx.x] = largest;
  if (!ArriveLast(split, &shared)) return;
  for (int i = threadIdx.x; i < split.num_splits; i += kThreads) {
    largest = fmaxf(largest, __ldcg(split.largest + first + i));
  }
  largest = cuda::BlockMax(largest, shared.floats);
  if (threadIdx.x != 0) return;
  *Said<float>(params) = largest == INFINITY ? NAN : largest + 0.0f;
}

// The bin of a depth, or -1: not where the nucleus ends.
template <int kDigit>
__device__ __forceinline__ int BinOf(const Depths& depths, uint32_t step) {
  constexpr int kBelow = nucleus::kBits * (2 - kDigit);  // bits after the digit
  if (kDigit == 0) {
    return step < kEndStep ? static_cast<int>(step >> kBelow) : -1;
  }
  const uint32_t prefix = step >> (kBelow + nucleus::kBits);
  return prefix == depths.prefix
             ? static_cast<int>(step >> kBelow & (kNucleusBins - 1))
             : -1;
}

// A weight is added in two parts, so that no sum of a few chunks is lost.
constexpr int kLowBits = 15;
constexpr int kChunksAtOnce = 4;
static_assert(int64_t{kChunksAtOnce} * row_scan::kChunk << (31 - kLowBits) <
              int64_t{1} << 32);

// Yields what this thread's bin has got, and empties it.
__device__ __forceinline__ uint64_t TakeBin(Shared* shared) {
  __syncthreads();
  uint64_t sum = 0;
  if (threadIdx.x < kNucleusBins) {
    sum = (uint64_t{shared->high[threadIdx.x]} << kLowBits) +
          shared->low[threadIdx.x];
    shared->low[threadIdx.x] = shared->high[threadIdx.x] = 0;
  }
  __syncthreads();
  return sum;
}

// What the block's chunks weigh; thread i gets bin i's.
template <int kDigit>
__device__ __forceinline__ uint64_t Weigh(const FilteredRow& row,
                                          const Depths& depths,
                                          const Split& split, Shared* shared) {
  if (threadIdx.x < kNucleusBins) {
    shared->low[threadIdx.x] = shared->high[threadIdx.x] = 0;
  }
  __syncthreads();
  const auto [begin, end] = MyChunks(split);
  uint64_t sum = 0;
  for (int chunk = begin; chunk < end; ++chunk) {
    float raw[kPerThread];
    row_scan::LoadChunk(row.row, chunk, raw);
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const uint32_t step = depths.StepOf(raw[i]);
      const int bin = BinOf<kDigit>(depths, step);
      if (bin < 0 || !depths.IsLikely(raw[i])) continue;
      const uint32_t weight =
          nucleus::WeightOf(step % nucleus::kStepsPerEighth);
      atomicAdd(&shared->low[bin], weight & ((1u << kLowBits) - 1));
      atomicAdd(&shared->high[bin], weight >> kLowBits);
    }
    if ((chunk - begin) % kChunksAtOnce == kChunksAtOnce - 1) {
      sum += TakeBin(shared);
    }
  }
  return sum + TakeBin(shared);
}

template <NucleusStage kStage>
__global__ void __launch_bounds__(kThreads, 2)
    WeighKernel(const __grid_constant__ NucleusParams params,
                const __grid_constant__ Split split) {
  constexpr int kDigit =
      static_cast<int>(kStage) - static_cast<int>(NucleusStage::kEighths);
  __shared__ Shared shared;
  const FilteredRow row = MyRow(params);
  nucleus::Advance<kStage>(params, blockIdx.y, row, &shared);
  if (shared.state.error != 0 || !row.has_top_p()) return;
  const Depths depths = nucleus::DepthsOf(row, shared.state);
  uint64_t sum = Weigh<kDigit>(row, depths, split, &shared);
  unsigned long long* const bin =
      split.bins + int64_t{blockIdx.y} * kNucleusBins + threadIdx.x;
  const bool has_bin = threadIdx.x < kNucleusBins;
  if (split.num_splits > 1) {
    if (has_bin && sum > 0) atomicAdd(bin, sum);
    if (!ArriveLast(split, &shared)) return;
    if (has_bin) {
      sum = __ldcg(bin);
      *bin = 0;
    }
  }
  if (!has_bin) return;
  static_cast<NucleusBin*>(
      params.said)[int64_t{blockIdx.y} * kNucleusBins + threadIdx.x] = {
      static_cast<uint32_t>(sum & 0x7fffffff),
      static_cast<uint32_t>(sum >> 31)};
}

// Sum of all threads' counts.
__device__ __forceinline__ int BlockCount(int mine, Shared* shared) {
  __syncthreads();
  if (threadIdx.x == 0) shared->first = 0;
  __syncthreads();
  if (mine > 0) atomicAdd(&shared->first, mine);
  __syncthreads();
  return shared->first;
}

// The column before which `count` of the shard's tokens lie at the depth where
// the nucleus ends.
__device__ __noinline__ int EndOfTies(const FilteredRow& row,
                                      const Depths& depths, int count,
                                      Shared* shared) {
  const int num_chunks = row_scan::NumChunks(row.row.num_vocab);
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    float raw[kPerThread];
    row_scan::LoadChunk(row.row, chunk, raw);
    uint32_t ties = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (depths.StepOf(raw[i]) == depths.prefix && depths.IsLikely(raw[i])) {
        ties |= 1u << i;
      }
    }
    const auto count_before = [&](int column) {
      int mine = 0;
      for (uint32_t rest = ties; rest != 0; rest &= rest - 1) {
        const int i = __ffs(rest) - 1;
        mine += ColumnAt(chunk, i / 4) + i % 4 < column;
      }
      return BlockCount(mine, shared);
    };
    int low = chunk * row_scan::kChunk, high = low + row_scan::kChunk;
    const int here = count_before(high);
    if (here < count) {
      count -= here;
      continue;
    }
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (count_before(middle) < count ? low : high) = middle;
    }
    return high;
  }
  return row.row.num_vocab;
}

// How far the shard's part of the nucleus goes.
struct Nucleus {
  uint32_t end_step;  // tokens at smaller depths are in it,
  int end_column;     // at just this one those before that column
};

__device__ __forceinline__ Nucleus NucleusOf(const NucleusParams& params,
                                             const FilteredRow& row,
                                             const Depths& depths,
                                             Shared* shared) {
  if (!row.has_top_p()) return {UINT32_MAX, row.row.num_vocab};
  const nucleus::Heard heard = {params.heard, params.num_shards,
                                params.num_rows,
                                static_cast<int32_t>(blockIdx.y)};
  const uint32_t step = depths.prefix;
  const uint64_t each = nucleus::WeightOf(step % nucleus::kStepsPerEighth);
  const auto ties_of = [&](int shard) {
    const int bin = step % kNucleusBins;
    return static_cast<int>(nucleus::WeightIn(heard, shard, bin) / each);
  };
  int left = shared->state.num_ties;
  for (int shard = 0; shard < params.shard; ++shard) left -= ties_of(shard);
  if (left <= 0) return {step, 0};
  if (left >= ties_of(params.shard)) return {step, row.row.num_vocab};
  return {step, EndOfTies(row, depths, left, shared)};
}

// The random words of four tokens from `id` on, which share a Philox block
// where the shard begins with a group.
__device__ __forceinline__ PhiloxWords WordsAt(const FilteredRow& row,
                                               int32_t id) {
  if (id % 4 == 0) {
    return Philox4x32({{static_cast<uint32_t>(id) / 4,
                        static_cast<uint32_t>(row.position), 0, 0}},
                      static_cast<uint32_t>(row.seed),
                      static_cast<uint32_t>(row.seed >> 32));
  }
  PhiloxWords words;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    words.word[j] = TokenRandomWord(row.seed, row.position, id + j);
  }
  return words;
}

__device__ __forceinline__ Noisy WithNoise(const FilteredRow& row, float logit,
                                           int32_t id) {
  return {logit + sampling::PreciseGumbel(row.seed, row.position, id),
          EntryOf(logit, id)};
}

// Of four tokens from `id` on those whose bits are set: whether one is better.
__device__ __forceinline__ void Consider(const FilteredRow& row, int32_t id,
                                         uint32_t bits, const float* raw,
                                         Noisy* best) {
  const PhiloxWords words = WordsAt(row, id);
  const float max = fmaxf(fmaxf(raw[0], raw[1]), fmaxf(raw[2], raw[3]));
  if (!sampling::MayReach(words, max * row.inverse,
                          static_cast<float>(best->value))) {
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (!(bits >> j & 1)) continue;
    const float about =
        fmaf(raw[j], row.inverse,
             sampling::FastGumbel(sampling::UniformOf(words.word[j])));
    const float bar = static_cast<float>(best->value);
    if (about < bar - sampling::kGumbelMargin - 1e-6f * fabsf(bar)) continue;
    const Noisy mine = WithNoise(row, raw[j] / row.divisor, id + j);
    if (IsBetter(mine, *best)) *best = mine;
  }
}

__device__ __forceinline__ Noisy DrawFrom(const FilteredRow& row,
                                          const Depths& depths,
                                          const Nucleus& nucleus,
                                          int32_t first_id,
                                          const Split& split) {
  Noisy best = {-INFINITY, 0};
  const auto [begin, end] = MyChunks(split);
  for (int chunk = begin; chunk < end; ++chunk) {
    float raw[kPerThread];
    row_scan::LoadChunk(row.row, chunk, raw);
#pragma unroll
    for (int quad = 0; quad < row_scan::kQuads; ++quad) {
      const int column = ColumnAt(chunk, quad);
      uint32_t bits = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float x = raw[quad * 4 + j];
        const uint32_t step = depths.StepOf(x);
        const bool is_in =
            step < nucleus.end_step ||
            (step == nucleus.end_step && column + j < nucleus.end_column);
        if (is_in && x > -INFINITY && depths.IsLikely(x)) bits |= 1u << j;
      }
      if (bits != 0) {
        Consider(row, first_id + column, bits, raw + quad * 4, &best);
      }
    }
  }
  return best;
}

__global__ void __launch_bounds__(kThreads, 2)
    DrawKernel(const __grid_constant__ NucleusParams params,
               const __grid_constant__ Split split) {
  __shared__ Shared shared;
  const FilteredRow row = MyRow(params);
  nucleus::Advance<NucleusStage::kDraw>(params, blockIdx.y, row, &shared);
  if (shared.state.error != 0) return;
  const Depths depths = nucleus::DepthsOf(row, shared.state);
  const Nucleus nucleus = NucleusOf(params, row, depths, &shared);
  Noisy best = BlockBest(DrawFrom(row, depths, nucleus, params.first_id, split),
                         shared.noisy);
  if (split.num_splits > 1) {
    Noisy* const draws = split.draws + int64_t{blockIdx.y} * split.num_splits;
    if (threadIdx.x == 0) draws[blockIdx.x] = best;
    if (!ArriveLast(split, &shared)) return;
    for (int i = threadIdx.x; i < split.num_splits; i += kThreads) {
      const Noisy other = {__ldcg(&draws[i].value), __ldcg(&draws[i].entry)};
      if (IsBetter(other, best)) best = other;
    }
    best = BlockBest(best, shared.noisy);
  }
  if (threadIdx.x != 0) return;
  *Said<ListedToken>(params) =
      best.entry == 0 ? ListedToken{0, -1}
                      : ListedToken{row_scan::ValueOf(best.entry),
                                    row_scan::ColumnOf(best.entry)};
}

__global__ void __launch_bounds__(cuda::kWarp)
    TokenKernel(const __grid_constant__ NucleusParams params) {
  const int index = blockIdx.x * cuda::kWarp + threadIdx.x;
  if (index >= params.num_rows) return;
  const ShapedRow& shaped = params.rows[index];
  const int at = static_cast<int>(NucleusStage::kDraw);
  int32_t token = params.states[at * params.num_rows + index].error;
  if (token == 0) {
    const FilteredRow row = sampling::RowAt(/*logits=*/nullptr, /*num_vocab=*/0,
                                            /*allowed=*/nullptr, shaped);
    const nucleus::Heard heard = {params.heard, params.num_shards,
                                  params.num_rows, index};
    Noisy best = {-INFINITY, 0};
    for (int shard = 0; shard < params.num_shards; ++shard) {
      const ListedToken draw = heard.Of<ListedToken>(shard);
      if (draw.token_id < 0) continue;
      const Noisy mine = WithNoise(row, draw.logit, draw.token_id);
      if (IsBetter(mine, best)) best = mine;
    }
    token = row_scan::ColumnOf(best.entry);
  }
  params.tokens[shaped.row] = token;
  params.by_slot[shaped.slot] = token;
}

}  // namespace

int64_t NucleusCounters(int32_t num_rows) {
  return NumArrivalWords(num_rows) + int64_t{num_rows} * kNucleusBins * 2;
}

int64_t NucleusWorkspaceBytes(const NucleusParams& params, int32_t num_sms) {
  return int64_t{params.num_rows} * NumSplits(params, num_sms) *
         int64_t{sizeof(Noisy)};
}

cudaError_t LaunchNucleusCuda(const NucleusParams& params, int32_t* counters,
                              void* workspace, int32_t num_sms,
                              cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  const Split split = {row_scan::NumChunks(params.num_vocab),
                       NumSplits(params, num_sms),
                       counters,
                       reinterpret_cast<unsigned long long*>(
                           counters + NumArrivalWords(params.num_rows)),
                       static_cast<float*>(workspace),
                       static_cast<Noisy*>(workspace)};
  const dim3 grid(split.num_splits, params.num_rows);
  switch (params.stage) {
    case NucleusStage::kLargest:
      LargestKernel<<<grid, kThreads, 0, stream>>>(params, split);
      break;
    case NucleusStage::kEighths:
      WeighKernel<NucleusStage::kEighths>
          <<<grid, kThreads, 0, stream>>>(params, split);
      break;
    case NucleusStage::kMiddle:
      WeighKernel<NucleusStage::kMiddle>
          <<<grid, kThreads, 0, stream>>>(params, split);
      break;
    case NucleusStage::kSteps:
      WeighKernel<NucleusStage::kSteps>
          <<<grid, kThreads, 0, stream>>>(params, split);
      break;
    case NucleusStage::kDraw:
      DrawKernel<<<grid, kThreads, 0, stream>>>(params, split);
      break;
    case NucleusStage::kToken: {
      const int blocks = (params.num_rows + cuda::kWarp - 1) / cuda::kWarp;
      TokenKernel<<<blocks, cuda::kWarp, 0, stream>>>(params);
      break;
    }
  }
  return cudaGetLastError();
}

}  // namespace quire
