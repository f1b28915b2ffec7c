// SPDX-License-Identifier: Apache-2.0
//
// The best token of a shard's part of a nucleus, with its noise.
#ifndef KERNELS_CUDA_NUCLEUS_DRAW_CUH_
#define KERNELS_CUDA_NUCLEUS_DRAW_CUH_

#include <cstdint>

#include "kernels/cuda/gumbel.cuh"
#include "kernels/cuda/nucleus_item.cuh"
#include "kernels/philox.h"

namespace quire::nucleus {

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
    LoadChunk(row, chunk, raw);
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

// How far a shard's part of the nucleus goes.
struct Range {
  uint32_t end_step;  // tokens at smaller depths are in it,
  int end_column;     // at just this one those before that column
};

__device__ __forceinline__ Range RangeOf(const NucleusParams& params,
                                         const Item& item,
                                         const FilteredRow& row,
                                         const Depths& depths, Shared* shared) {
  if (!row.has_top_p()) return {UINT32_MAX, row.row.num_vocab};
  const Heard heard = {params.heard, params.num_shards, params.num_rows,
                       item.row};
  const uint32_t step = depths.prefix;
  const uint64_t each = WeightOf(step % kStepsPerEighth);
  const auto ties_of = [&](int shard) {
    const int bin = step % kNucleusBins;
    return static_cast<int>(WeightIn(heard, shard, bin) / each);
  };
  int left = shared->state.num_ties;
  for (int shard = 0; shard < params.shard; ++shard) left -= ties_of(shard);
  if (left <= 0) return {step, 0};
  if (left >= ties_of(params.shard)) return {step, row.row.num_vocab};
  return {step, EndOfTies(row, depths, left, shared)};
}

// What a row's noise follows from.
struct Noise {
  uint64_t seed;
  int64_t position;
  float divisor, inverse;  // of the logits
};

// The random words of four tokens from `id` on, which share a Philox block
// where the shard begins with a group.
__device__ __forceinline__ PhiloxWords GroupOf(const Noise& noise, int32_t id) {
  return Philox4x32({{static_cast<uint32_t>(id) / 4,
                      static_cast<uint32_t>(noise.position), 0, 0}},
                    static_cast<uint32_t>(noise.seed),
                    static_cast<uint32_t>(noise.seed >> 32));
}
__device__ __noinline__ PhiloxWords WordsAt(Noise noise, int32_t id) {
  const PhiloxWords words = GroupOf(noise, id);
  if (id % 4 == 0) return words;
  const PhiloxWords next = GroupOf(noise, id + 3);
  uint32_t all[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) all[i] = i < 4 ? words.word[i] : next.word[i - 4];
#pragma unroll
  for (int shift = 0; shift < 3; ++shift) {
    if (shift >= id % 4) continue;
#pragma unroll
    for (int i = 0; i < 7; ++i) all[i] = all[i + 1];
  }
  return {{all[0], all[1], all[2], all[3]}};
}

// About the best of four tokens from `id` on whose bits are set.
__device__ __forceinline__ float AboutBest(const Noise& noise, int32_t id,
                                           uint32_t bits, const float* raw) {
  const PhiloxWords words = WordsAt(noise, id);
  float best = -INFINITY;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (!(bits >> j & 1)) continue;
    best = fmaxf(
        best, fmaf(raw[j], noise.inverse,
                   sampling::FastGumbel(sampling::UniformOf(words.word[j]))));
  }
  return best;
}

// Of four tokens from `id` on those whose bits are set, if one is better than
// `best`, and better than about `bar`. No part of its caller's unrolled loop,
// which the instruction cache would not hold.
__device__ __noinline__ Best Consider(Noise noise, int32_t id, uint32_t bits,
                                      float4 four, float bar, Best best) {
  const PhiloxWords words = WordsAt(noise, id);
  const float raw[4] = {four.x, four.y, four.z, four.w};
  const float max = fmaxf(fmaxf(raw[0], raw[1]), fmaxf(raw[2], raw[3]));
  bar = fmaxf(bar, best.value);
  if (!sampling::MayReach(words, max * noise.inverse, bar)) return best;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (!(bits >> j & 1)) continue;
    const float u = sampling::UniformOf(words.word[j]);
    const float about = fmaf(raw[j], noise.inverse, sampling::FastGumbel(u));
    if (about < bar - sampling::kGumbelMargin - 1e-6f * fabsf(bar)) continue;
    const Best mine = {raw[j] / noise.divisor + sampling::Gumbel(u), id + j};
    if (IsBetter(mine, best)) best = mine;
    bar = fmaxf(bar, best.value);
  }
  return best;
}

// Which of four columns from `column` on are in the nucleus.
__device__ __forceinline__ uint32_t BitsOf(const Depths& depths,
                                           const Range& range, int column,
                                           const float* raw) {
  uint32_t bits = 0;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const uint32_t step = depths.StepOf(raw[j]);
    const bool is_in = step < range.end_step || (step == range.end_step &&
                                                 column + j < range.end_column);
    if (is_in && raw[j] > -INFINITY && depths.IsLikely(raw[j])) bits |= 1u << j;
  }
  return bits;
}

__device__ __forceinline__ Best DrawFrom(const FilteredRow& row,
                                         const Depths& depths,
                                         const Range& range, int32_t first_id,
                                         const Item& item, Shared* shared) {
  const Noise noise = {row.seed, row.position, row.divisor, row.inverse};
  Best best = {-INFINITY, -1};
  float bar = -INFINITY;
  for (int chunk = item.begin; chunk < item.end; ++chunk) {
    float raw[kPerThread];
    LoadChunk(row, chunk, raw);
    if (chunk == item.begin) {
      const int column = ColumnAt(chunk, 0);
      const uint32_t bits = BitsOf(depths, range, column, raw);
      if (bits != 0) bar = AboutBest(noise, first_id + column, bits, raw);
      bar = cuda::BlockMax(bar, shared->floats);
    }
#pragma unroll
    for (int quad = 0; quad < row_scan::kQuads; ++quad) {
      const int column = ColumnAt(chunk, quad);
      const float* const four = raw + quad * 4;
      const uint32_t bits = BitsOf(depths, range, column, four);
      if (bits == 0) continue;
      best = Consider(noise, first_id + column, bits,
                      {four[0], four[1], four[2], four[3]}, bar, best);
    }
  }
  return best;
}

__device__ __forceinline__ void Draw(const NucleusParams& params,
                                     const Split& split, const Item& item,
                                     Shared* shared) {
  const FilteredRow row = RowOf(params, split, item);
  Advance<NucleusStage::kDraw>(params, item.row, item.part == 0, row, shared);
  if (shared->state.error != 0) return;
  const Depths depths = DepthsOf(row, shared->state);
  const Range range = RangeOf(params, item, row, depths, shared);
  Best best =
      BlockBest(DrawFrom(row, depths, range, params.first_id, item, shared),
                shared->best);
  if (item.num_parts > 1) {
    Best* const draws = split.draws + int64_t{item.row} * item.num_parts;
    if (threadIdx.x == 0) draws[item.part] = best;
    if (!ArriveLast(split, item, shared)) return;
    for (int i = threadIdx.x; i < item.num_parts; i += kThreads) {
      const Best other = {__ldcg(&draws[i].value), __ldcg(&draws[i].id)};
      if (IsBetter(other, best)) best = other;
    }
    best = BlockBest(best, shared->best);
  }
  if (threadIdx.x != 0) return;
  ListedToken& said = static_cast<ListedToken*>(params.said)[item.row];
  said = {0, best.id};
  if (best.id < 0) return;
  said.logit = row.row.logits[best.id - params.first_id] / row.divisor + 0.0f;
}

}  // namespace quire::nucleus

#endif  // KERNELS_CUDA_NUCLEUS_DRAW_CUH_
