// SPDX-License-Identifier: Apache-2.0
//
// A block's way through its part of a row with filters.
#ifndef KERNELS_CUDA_SCAN_FILTERED_CUH_
#define KERNELS_CUDA_SCAN_FILTERED_CUH_

#include <cfloat>
#include <cstdint>

#include "kernels/cuda/filtered_row.cuh"
#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/shaped_choice.h"

namespace quire::sampling {

// The row of `logits` [any, num_vocab] that is `shaped`.
__device__ inline FilteredRow RowAt(const float* logits, int num_vocab,
                                    const uint32_t* allowed,
                                    const ShapedRow& shaped) {
  constexpr float kGreedyTemperature = 1e-5f;  // kernels/sample.h
  FilteredRow row;
  row.row.logits = logits + int64_t{shaped.row} * num_vocab;
  row.row.num_vocab = num_vocab;
  row.row.allowed =
      shaped.first_allowed < 0 ? nullptr : allowed + shaped.first_allowed;
  row.row.num_allowed_words = shaped.num_allowed_words;
  row.seed = shaped.seed;
  row.position = shaped.position;
  row.divisor =
      shaped.temperature < kGreedyTemperature ? 1.0f : shaped.temperature;
  row.inverse = 1.0f / row.divisor;
  row.top_k = shaped.top_k;
  row.top_p = shaped.top_p;
  row.min_p = shaped.min_p;
  return row;
}

// Raw logits below this are below the bar after division, for certain; it is
// above -infinity.
__device__ __forceinline__ float NearBar(uint64_t bar, float divisor) {
  const float value = row_scan::ValueOf(bar) * divisor;
  return fmaxf(value - 1e-6f * fabsf(value) - 1e-30f, -FLT_MAX);
}

// Reads the block's chunks: their sums to `partials`, their largest tokens to
// the list.
__device__ __forceinline__ void Scan(const FilteredRow& row,
                                     const row_scan::SplitRows& split,
                                     row_scan::TopList* list) {
  const auto [begin, end] = MyChunks(split);
  row_scan::Partial* const partials = PartialsOf(split);
  float next[kPerThread];
  if (begin < end) row_scan::LoadChunk(row.row, begin, next);
  uint64_t bar = row_scan::kLeastEntry;
  float near = NearBar(bar, row.divisor);
  for (int chunk = begin; chunk < end; ++chunk) {
    float raw[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) raw[i] = next[i];
    if (chunk + 1 < end) row_scan::LoadChunk(row.row, chunk + 1, next);
    row_scan::ApplyAllowed(row.row, chunk, raw);
    const row_scan::Partial partial = row_scan::WarpPartial(raw, row.inverse);
    if (threadIdx.x % cuda::kWarp == 0) {
      partials[chunk * kWarps + threadIdx.x / cuda::kWarp] = partial;
    }
    if (chunk == begin) {
      bar = row_scan::FirstBar([&](int i) { return raw[i] / row.divisor; },
                               row.wanted(), list);
      near = NearBar(bar, row.divisor);
    }
    uint32_t passing = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (raw[i] >= near) passing |= 1u << i;
    }
    // Not raw[i], which is not to leave its registers.
    const auto entry = [&](int i) {
      const int column = row_scan::ColumnAt(chunk, i / 4) + i % 4;
      return row_scan::EntryOf(row.row.logits[column] / row.divisor, column);
    };
    const uint64_t before = bar;
    row_scan::Push(passing, entry, row.wanted(), &bar, list);
    if (bar != before) near = NearBar(bar, row.divisor);
  }
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_SCAN_FILTERED_CUH_
