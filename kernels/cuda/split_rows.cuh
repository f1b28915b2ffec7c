// SPDX-License-Identifier: Apache-2.0
//
// Several blocks that read one row: how many, what each leaves for the last to
// arrive, and what that one makes of it.
#ifndef KERNELS_CUDA_SPLIT_ROWS_CUH_
#define KERNELS_CUDA_SPLIT_ROWS_CUH_

#include <cstdint>

#include "kernels/cuda/row_scan.cuh"

namespace quire::row_scan {

struct SplitRows {
  int32_t* arrivals;  // [num_rows] blocks that are done; 0 between launches
  Partial* partials;  // [num_rows, num_chunks * kWarps]
  int32_t* counts;    // [num_rows, num_splits] of listed tokens
  uint64_t* lists;    // [num_rows, num_splits, max_listed]
  int32_t num_chunks;
  int32_t num_splits;  // blocks of a row
  int32_t max_listed;
};

// Cuts workspace that begins at `base`, arrivals apart; yields its bytes. As
// many blocks as run at once: two on each multiprocessor.
inline int64_t Split(int32_t num_rows, int32_t num_vocab, int32_t num_sms,
                     int32_t max_listed, void* base, SplitRows* split) {
  const int32_t chunks = NumChunks(num_vocab);
  const int32_t splits = num_rows < 1 ? 1 : 2 * num_sms / num_rows;
  split->arrivals = nullptr;
  split->num_chunks = chunks;
  // An empty shard of a vocabulary has no chunks.
  const int32_t most = chunks < 1 ? 1 : chunks;
  split->num_splits = splits < 1 ? 1 : splits > most ? most : splits;
  split->max_listed = max_listed;
  int64_t end = 0;
  const auto take = [&](int64_t bytes) {
    char* const at = static_cast<char*>(base) + end;
    end += (bytes + 255) / 256 * 256;
    return at;
  };
  const int64_t blocks = int64_t{num_rows} * split->num_splits;
  split->partials = reinterpret_cast<Partial*>(
      take(int64_t{num_rows} * chunks * kWarps * sizeof(Partial)));
  split->counts = reinterpret_cast<int32_t*>(take(blocks * sizeof(int32_t)));
  split->lists =
      reinterpret_cast<uint64_t*>(take(blocks * max_listed * sizeof(uint64_t)));
  return end;
}

struct ChunkRange {
  int begin, end;
};

// The chunks of this block; blockIdx is (split, row).
__device__ __forceinline__ ChunkRange MyChunks(const SplitRows& split) {
  const int each = (split.num_chunks + split.num_splits - 1) / split.num_splits;
  const int begin = min(static_cast<int>(blockIdx.x) * each, split.num_chunks);
  return {begin, min(begin + each, split.num_chunks)};
}

__device__ __forceinline__ Partial* PartialsOf(const SplitRows& split) {
  return split.partials + int64_t{blockIdx.y} * split.num_chunks * kWarps;
}

// Whether this block is its row's last; then the list holds the `wanted`
// largest of all blocks, and more perhaps. Every thread calls it.
__device__ __forceinline__ bool ArriveLast(const SplitRows& split, int wanted,
                                           TopList* list) {
  if (split.num_splits == 1) return true;
  const int64_t row = int64_t{blockIdx.y} * split.num_splits;
  const int mine = Trim(wanted, list);
  for (int i = threadIdx.x; i < mine; i += kThreads) {
    split.lists[(row + blockIdx.x) * split.max_listed + i] = list->entries[i];
  }
  if (threadIdx.x == 0) split.counts[row + blockIdx.x] = mine;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const int before = atomicAdd(&split.arrivals[blockIdx.y], 1);
    list->is_exact = before == split.num_splits - 1;
    if (list->is_exact) split.arrivals[blockIdx.y] = 0;
    __threadfence();
  }
  __syncthreads();
  const bool is_last = list->is_exact;
  __syncthreads();
  if (!is_last) return false;
  uint64_t bar = kLeastEntry;
  for (int other = 0; other < split.num_splits; ++other) {
    if (other == static_cast<int>(blockIdx.x)) continue;
    // Other blocks wrote them: not from this one's first-level cache.
    const int count = __ldcg(split.counts + row + other);
    const uint64_t* const its = split.lists + (row + other) * split.max_listed;
    PushAll(
        count, [&](int i) { return __ldcg(its + i); }, wanted, &bar, list);
  }
  return true;
}

// Over all tokens: the largest logit as it is, and the sum of
// exp((logit - max) * inverse), which is NaN where a logit is NaN or +infinity.
struct RowSum {
  float max;
  double sum;
};

// Every thread of a row's last block calls it and gets it.
__device__ __forceinline__ RowSum SumUp(const SplitRows& split, float inverse,
                                        TopList* list) {
  const Partial* const partials = PartialsOf(split);
  const int count = split.num_chunks * kWarps;
  __syncthreads();
  float max = -INFINITY;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    max = fmaxf(max, __ldcg(&partials[i].max));
  }
  max = cuda::BlockMax(max, list->floats);
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const float part = __ldcg(&partials[i].sum);
    if (part == 0) continue;
    const float below = __ldcg(&partials[i].max) - max;
    sum += part * exp(static_cast<double>(below * inverse));
  }
  return {max, BlockSum(sum, list->doubles)};
}

}  // namespace quire::row_scan

#endif  // KERNELS_CUDA_SPLIT_ROWS_CUH_
