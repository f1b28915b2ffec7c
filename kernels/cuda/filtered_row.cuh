// SPDX-License-Identifier: Apache-2.0
//
// One row with filters, and its token from the largest of its tokens or, where
// the filters cut further down, from passes over all of them.
#ifndef KERNELS_CUDA_FILTERED_ROW_CUH_
#define KERNELS_CUDA_FILTERED_ROW_CUH_

#include <cstdint>

#include "kernels/cuda/choose_filtered.h"
#include "kernels/cuda/gumbel.cuh"
#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/philox.h"

namespace quire::sampling {

using row_scan::kPerThread;
using row_scan::kQuads;
using row_scan::kThreads;
using row_scan::kWarps;
using row_scan::RowSum;
using row_scan::TopList;

struct FilteredRow {
  row_scan::Row row;
  uint64_t seed;
  int64_t position;
  float divisor, inverse;
  int32_t top_k;
  float top_p, min_p;

  __device__ bool has_top_p() const { return top_p < 1; }
  __device__ bool is_cut_first() const { return top_k > 0 || min_p > 0; }
  // How many of the largest tokens decide, as far as is known beforehand.
  __device__ int wanted() const {
    return top_k > 0 && top_k <= kMaxListed ? top_k : kNucleusListed;
  }
};

// Why no token of the row can be chosen, a ChoiceError; 0: one can.
__device__ __forceinline__ int32_t ErrorOf(const FilteredRow& row,
                                           const RowSum& sum) {
  if (isnan(sum.sum)) return kLogitsNotFinite;
  if (sum.max == -INFINITY) return kNoToken;
  return sum.max / row.divisor == INFINITY ? int32_t{kLogitsOverflow} : 0;
}

// The noise of a token in double precision, as worker/sampler adds it to what
// filters keep.
__device__ __noinline__ inline double PreciseGumbel(uint64_t seed,
                                                    int64_t position,
                                                    int32_t token_id) {
  const uint32_t word = TokenRandomWord(seed, position, token_id);
  const double u = ((word >> 1) + 0.5) * 0x1p-31;
  return -log(-log1p(-u));
}

struct Noisy {
  double value;
  uint64_t entry;
};

__device__ __forceinline__ bool IsBetter(const Noisy& a, const Noisy& b) {
  return a.value > b.value || (a.value == b.value && a.entry > b.entry);
}

// Every thread gets the best. `shared` holds kWarps.
__device__ __forceinline__ Noisy BlockBest(Noisy best, Noisy* shared) {
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const Noisy other = {
        __shfl_xor_sync(0xffffffffu, best.value, offset),
        __shfl_xor_sync(0xffffffffu,
                        static_cast<unsigned long long>(best.entry), offset)};
    if (IsBetter(other, best)) best = other;
  }
  __syncthreads();
  if (threadIdx.x % cuda::kWarp == 0) shared[threadIdx.x / cuda::kWarp] = best;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) {
    if (IsBetter(shared[warp], best)) best = shared[warp];
  }
  return best;
}

// Sum of all threads' values before this one's, and of all. `shared` holds
// kWarps.
__device__ __forceinline__ double SumBefore(double x, double* shared,
                                            double* total) {
  const int lane = threadIdx.x % cuda::kWarp, warp = threadIdx.x / cuda::kWarp;
  double inclusive = x;
#pragma unroll
  for (int offset = 1; offset < cuda::kWarp; offset *= 2) {
    const double other = __shfl_up_sync(0xffffffffu, inclusive, offset);
    if (lane >= offset) inclusive += other;
  }
  __syncthreads();
  if (lane == cuda::kWarp - 1) shared[warp] = inclusive;
  __syncthreads();
  double before = 0, all = 0;
  for (int i = 0; i < kWarps; ++i) {
    if (i < warp) before += shared[i];
    all += shared[i];
  }
  *total = all;
  return before + inclusive - x;
}

constexpr int32_t kUndecided = -100;

// Where the filters cut, among the sorted entries: how many are kept, or
// kUndecided. `is_complete`: no other token can be kept.
__device__ __forceinline__ int CutSorted(const FilteredRow& row, int count,
                                         bool is_complete, float max,
                                         double least, double sum,
                                         TopList* list) {
  static_assert(2 * kThreads == kMaxListed);
  double mass[2];
  int num_likely = 0;  // not below min_p
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int i = 2 * threadIdx.x + j;
    const bool is_likely =
        i < count && (i == 0 || row_scan::ValueOf(list->entries[i]) >= least);
    mass[j] =
        is_likely
            ? exp(static_cast<double>(row_scan::ValueOf(list->entries[i])) -
                  max)
            : 0.0;
    num_likely += __syncthreads_count(is_likely);
  }
  double total;
  const double before = SumBefore(mass[0] + mass[1], list->doubles, &total);
  if (row.is_cut_first()) {
    if (!is_complete && num_likely == count) return kUndecided;
  } else if (!is_complete && total < row.top_p * sum) {
    return kUndecided;
  }
  const double target = row.top_p * (row.is_cut_first() ? total : sum);
  int num_kept = 0;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int i = 2 * threadIdx.x + j;
    const double mine = j == 0 ? before : before + mass[0];
    num_kept +=
        __syncthreads_count(i < num_likely && (i == 0 || mine < target));
  }
  return num_kept;
}

// The token among the largest `count` of the row, or kUndecided. Every thread
// of the block calls it and gets it.
__device__ __forceinline__ int32_t ChooseListed(const FilteredRow& row,
                                                int count, const RowSum& sum,
                                                TopList* list, Noisy* shared) {
  const float max = sum.max / row.divisor;
  const double least =
      row.min_p > 0 ? max + log(static_cast<double>(row.min_p)) : -INFINITY;
  const int wanted = row.wanted();
  const bool is_complete =
      count < wanted || row.top_k == wanted || count >= row.row.num_vocab;
  int num_kept = count;
  if (row.has_top_p()) {
    row_scan::Sort(count, list);
    num_kept = CutSorted(row, count, is_complete, max, least, sum.sum, list);
    if (num_kept == kUndecided) return kUndecided;
  }
  Noisy best = {-INFINITY, 0};
  bool has_unlikely = false;
  for (int i = threadIdx.x; i < num_kept; i += kThreads) {
    const uint64_t entry = list->entries[i];
    const float value = row_scan::ValueOf(entry);
    if (!row.has_top_p() && value < least) {
      has_unlikely = true;
      continue;
    }
    const Noisy mine = {value + PreciseGumbel(row.seed, row.position,
                                              row_scan::ColumnOf(entry)),
                        entry};
    if (IsBetter(mine, best)) best = mine;
  }
  const bool is_cut = __syncthreads_or(has_unlikely);
  if (!row.has_top_p() && !is_complete && !is_cut) return kUndecided;
  return row_scan::ColumnOf(BlockBest(best, shared).entry);
}

// What a pass over the whole row finds of the entries from `bar` on.
struct Pass {
  double mass;  // sum of exp((logit - max) / divisor)
  Best best;    // with its noise
};

__device__ __forceinline__ void Consider(const FilteredRow& row, int column,
                                         uint32_t bits, const float* raw,
                                         Best* best) {
  const PhiloxWords words = Philox4x32(
      {{static_cast<uint32_t>(column) / 4, static_cast<uint32_t>(row.position),
        0, 0}},
      static_cast<uint32_t>(row.seed), static_cast<uint32_t>(row.seed >> 32));
  const float max = fmaxf(fmaxf(raw[0], raw[1]), fmaxf(raw[2], raw[3]));
  if (!MayReach(words, max * row.inverse, best->value)) return;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (!(bits >> j & 1)) continue;
    const float u = UniformOf(words.word[j]);
    const float about = fmaf(raw[j], row.inverse, FastGumbel(u));
    const float bar = best->value;
    if (about < bar - kGumbelMargin - 1e-6f * fabsf(bar)) continue;
    const Best mine = {raw[j] / row.divisor + Gumbel(u), column + j};
    if (IsBetter(mine, *best)) *best = mine;
  }
}

__device__ __noinline__ inline Pass RunPass(const FilteredRow& row,
                                            uint64_t bar, float max,
                                            TopList* list, Best* shared_best) {
  const float bar_value = fmaxf(row_scan::ValueOf(bar) * row.divisor, -3.4e38f);
  // A quotient may fall on either side of the bar only from about there.
  const float margin = 1e-6f * fabsf(bar_value) + 1e-30f;
  const float low = bar_value - margin, high = bar_value + margin;
  double mass = 0;
  Best best = {-INFINITY, -1};
  const int num_chunks = row_scan::NumChunks(row.row.num_vocab);
  float next[kPerThread];
  row_scan::LoadChunk(row.row, 0, next);
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    float raw[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) raw[i] = next[i];
    if (chunk + 1 < num_chunks) row_scan::LoadChunk(row.row, chunk + 1, next);
    row_scan::ApplyAllowed(row.row, chunk, raw);
    float part = 0.0f;
#pragma unroll
    for (int quad = 0; quad < kQuads; ++quad) {
      const int column = row_scan::ColumnAt(chunk, quad);
      uint32_t bits = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float x = raw[quad * 4 + j];
        if (x < low) continue;
        if (x <= high && row_scan::EntryOf(x / row.divisor, column + j) < bar) {
          continue;
        }
        bits |= 1u << j;
        part += row_scan::Share(x, max, row.inverse);
      }
      if (bits != 0) Consider(row, column, bits, raw + quad * 4, &best);
    }
    mass += part;
  }
  return {row_scan::BlockSum(mass, list->doubles),
          BlockBest(best, shared_best)};
}

__device__ __forceinline__ uint64_t Larger(uint64_t a, uint64_t b) {
  return a > b ? a : b;
}

// The least entry that top_k and min_p leave.
__device__ __forceinline__ uint64_t FloorOf(const FilteredRow& row, float max,
                                            TopList* list) {
  uint64_t floor = row_scan::kLeastEntry;
  if (row.min_p > 0) {
    // Not below the bound: not below the float that is next to it above.
    const float least = __double2float_ru(max / row.divisor +
                                          log(static_cast<double>(row.min_p)));
    floor = Larger(floor, uint64_t{row_scan::KeyOf(least)} << 32);
  }
  if (row.top_k > 0 && row.top_k < row.row.num_vocab) {
    const uint64_t cut =
        row_scan::SelectAmong(row.top_k, list, [&](const auto& f) {
          const int num_chunks = row_scan::NumChunks(row.row.num_vocab);
          for (int chunk = 0; chunk < num_chunks; ++chunk) {
            float raw[kPerThread];
            row_scan::LoadChunk(row.row, chunk, raw);
            row_scan::ApplyAllowed(row.row, chunk, raw);
#pragma unroll
            for (int i = 0; i < kPerThread; ++i) {
              const int column = row_scan::ColumnAt(chunk, i / 4) + i % 4;
              if (column >= row.row.num_vocab) continue;
              f(row_scan::EntryOf(raw[i] / row.divisor, column));
            }
          }
        });
    floor = Larger(floor, cut);
  }
  return floor;
}

// The token of a row that its largest tokens do not decide.
__device__ __noinline__ inline int32_t ChooseByPasses(const FilteredRow& row,
                                                      const RowSum& sum,
                                                      TopList* list,
                                                      Best* shared_best) {
  const uint64_t floor = FloorOf(row, sum.max, list);
  Pass pass = RunPass(row, floor, sum.max, list, shared_best);
  if (!row.has_top_p()) return pass.best.id;
  const double target = row.top_p * (row.is_cut_first() ? pass.mass : sum.sum);
  while (true) {
    // Kept if what is above it falls short; the largest token always is.
    const int32_t token = pass.best.id;
    const uint64_t entry =
        row_scan::EntryOf(row.row.logits[token] / row.divisor, token);
    pass = RunPass(row, entry + 1, sum.max, list, shared_best);
    if (pass.best.id < 0 || pass.mass < target) return token;
  }
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_FILTERED_ROW_CUH_
