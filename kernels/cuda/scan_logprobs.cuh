// SPDX-License-Identifier: Apache-2.0
//
// What log probabilities take from one reading of a row, or of a shard of it.
#ifndef KERNELS_CUDA_SCAN_LOGPROBS_CUH_
#define KERNELS_CUDA_SCAN_LOGPROBS_CUH_

#include <cstdint>

#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/shaped_choice.h"

namespace quire::logprobs {

using row_scan::kPerThread;
using row_scan::kThreads;
using row_scan::kWarps;
using row_scan::Partial;
using row_scan::RowSum;
using row_scan::SplitRows;
using row_scan::TopList;

// Reads the block's chunks: sums, the largest, and how many are above `chosen`.
__device__ __forceinline__ int ScanChunks(const row_scan::Row& row,
                                          const SplitRows& split, int wanted,
                                          float chosen, TopList* list) {
  const row_scan::ChunkRange range = MyChunks(split);
  Partial* const partials = PartialsOf(split);
  float next[kPerThread];
  if (range.begin < range.end) row_scan::LoadChunk(row, range.begin, next);
  uint64_t bar = row_scan::kLeastEntry;
  int num_above = 0;
  for (int chunk = range.begin; chunk < range.end; ++chunk) {
    float raw[kPerThread];
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) raw[i] = next[i];
    if (chunk + 1 < range.end) row_scan::LoadChunk(row, chunk + 1, next);
    const Partial partial = row_scan::WarpPartial(raw, 1.0f);
    if (threadIdx.x % cuda::kWarp == 0) {
      partials[chunk * kWarps + threadIdx.x / cuda::kWarp] = partial;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) num_above += raw[i] > chosen;
    if (wanted == 0) continue;
    if (chunk == range.begin) {
      bar = row_scan::FirstBar([&](int i) { return raw[i]; }, wanted, list);
    }
    const float least = row_scan::ValueOf(bar);
    uint32_t passing = 0;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      if (raw[i] >= least) passing |= 1u << i;
    }
    // Not raw[i], which is not to leave its registers.
    const auto entry = [&](int i) {
      const int column = row_scan::ColumnAt(chunk, i / 4) + i % 4;
      return row_scan::EntryOf(row.logits[column], column);
    };
    row_scan::Push(passing, entry, wanted, &bar, list);
  }
  return num_above;
}

struct RowScan {
  RowSum sum;
  int num_above;
  int num_listed;  // of the list, in any order
};

// What all blocks of a row have read. Every thread of each calls it; true in
// the row's last block to arrive, whose list holds the `wanted` largest. The
// row's words of `above`, [rows], are 0 before and after.
__device__ __forceinline__ bool ScanRow(const row_scan::Row& row,
                                        const SplitRows& split, int wanted,
                                        float chosen, int32_t* above,
                                        TopList* list, RowScan* scan) {
  if (threadIdx.x == 0) list->count = 0;
  __syncthreads();
  int num_above = ScanChunks(row, split, wanted, chosen, list);
  num_above = __reduce_add_sync(0xffffffffu, num_above);
  if (threadIdx.x % cuda::kWarp == 0) {
    atomicAdd(&above[blockIdx.y], num_above);
  }
  __threadfence();
  __syncthreads();
  if (!ArriveLast(split, wanted, list)) return false;
  scan->sum = SumUp(split, 1.0f, list);
  scan->num_listed = row_scan::Trim(wanted, list);
  scan->num_above = __ldcg(&above[blockIdx.y]);
  __syncthreads();
  if (threadIdx.x == 0) above[blockIdx.y] = 0;
  return true;
}

// By a block, from a sorted list; thread 0 has num_above.
__device__ inline void Write(float chosen, double log_sum, int num_above,
                             int count, const TopList& list,
                             TokenLogprobs* out) {
  if (threadIdx.x == 0) {
    out->logprob = static_cast<float>(chosen - log_sum);
    out->rank = num_above + 1;
  }
  for (int i = threadIdx.x; i < kMaxTopLogprobs; i += kThreads) {
    out->top_ids[i] = -1;
    out->top_logprobs[i] = -INFINITY;
    if (i >= count) continue;
    out->top_ids[i] = row_scan::ColumnOf(list.entries[i]);
    out->top_logprobs[i] =
        static_cast<float>(row_scan::ValueOf(list.entries[i]) - log_sum);
  }
}

}  // namespace quire::logprobs

#endif  // KERNELS_CUDA_SCAN_LOGPROBS_CUH_
