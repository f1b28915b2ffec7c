// SPDX-License-Identifier: Apache-2.0
//
// Reading a row of logits once: the block's share in chunks, sums of exponents
// that do not depend on how blocks share a row, and the largest columns, kept
// behind a bar that rises as more of the row is seen.
#ifndef KERNELS_CUDA_ROW_SCAN_CUH_
#define KERNELS_CUDA_ROW_SCAN_CUH_

#include <cstdint>

#include "kernels/cuda/allowed.cuh"
#include "kernels/cuda/float_key.cuh"
#include "kernels/cuda/sort_entries.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire::row_scan {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / cuda::kWarp;
constexpr int kQuads = 4;
constexpr int kPerThread = 4 * kQuads;
constexpr int kChunk = kThreads * kPerThread;
constexpr int kListCapacity = 4096;

using cuda::KeyOf;
using cuda::kNegInfKey;
using cuda::OfKey;

// Entries order by value, then by the lower column.
__device__ __forceinline__ uint64_t EntryOf(float value, int32_t column) {
  return uint64_t{KeyOf(value)} << 32 | static_cast<uint32_t>(~column);
}
__device__ __forceinline__ float ValueOf(uint64_t entry) {
  return OfKey(static_cast<uint32_t>(entry >> 32));
}
__device__ __forceinline__ int32_t ColumnOf(uint64_t entry) {
  return static_cast<int32_t>(~static_cast<uint32_t>(entry));
}
// Below every entry that is not -infinity.
constexpr uint64_t kLeastEntry = uint64_t{kNegInfKey + 1} << 32;

__host__ __device__ inline int NumChunks(int num_vocab) {
  return (num_vocab + kChunk - 1) / kChunk;
}

// One row as blocks read it.
struct Row {
  const float* logits;
  int num_vocab;
  const uint32_t* allowed;  // null: all
  int num_allowed_words;
};

__device__ __forceinline__ int ColumnAt(int chunk, int quad) {
  return chunk * kChunk + (quad * kThreads + threadIdx.x) * 4;
}

// A thread's columns of a chunk; -infinity beyond the end.
__device__ __forceinline__ void LoadChunk(const Row& row, int chunk,
                                          float (&raw)[kPerThread]) {
  const bool aligned = reinterpret_cast<uintptr_t>(row.logits) % 16 == 0;
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    const int column = ColumnAt(chunk, quad);
    float v[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    if (aligned && column + 4 <= row.num_vocab) {
      cuda::Load(row.logits + column, v);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (column + j < row.num_vocab) v[j] = row.logits[column + j];
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) raw[quad * 4 + j] = v[j];
  }
}

// Columns that may not be chosen become -infinity.
__device__ __forceinline__ void ApplyAllowed(const Row& row, int chunk,
                                             float (&raw)[kPerThread]) {
  if (row.allowed == nullptr) return;
  cuda::ApplyAllowed(
      row.allowed, row.num_allowed_words,
      [&](int quad) { return ColumnAt(chunk, quad); }, raw);
}

// exp(value) by the special function unit: within 1e-6 of itself for shares
// that count. `maximum` may be -infinity.
__device__ __forceinline__ float Share(float value, float maximum,
                                       float inverse) {
  return __expf((value - maximum) * inverse);
}

// The largest of some columns and the sum of exp((x - max) * inverse); the sum
// is NaN where a column is NaN or +infinity.
struct Partial {
  float max;
  float sum;
};

// Of a warp's columns of a chunk; every lane gets it.
__device__ __forceinline__ Partial WarpPartial(const float (&raw)[kPerThread],
                                               float inverse) {
  float max = raw[0];
#pragma unroll
  for (int i = 1; i < kPerThread; ++i) max = fmaxf(max, raw[i]);
  max = cuda::WarpMax(max);
  const float reference = max == -INFINITY ? 0.0f : max;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    sum += Share(raw[i], reference, inverse);
  }
  return {max, cuda::WarpSum(sum)};
}

struct TopList {
  uint64_t entries[kListCapacity];
  int32_t histogram[256];
  int32_t count;
  int32_t digit, left, is_exact;
  float floats[cuda::kWarp];
  double doubles[cuda::kWarp];
};

__device__ __forceinline__ double BlockSum(double x, double* shared) {
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  __syncthreads();
  if (threadIdx.x % cuda::kWarp == 0) shared[threadIdx.x / cuda::kWarp] = x;
  __syncthreads();
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp];
  return sum;
}

// Finds the digit of the wanted-th largest entry from the histogram. A warp
// calls it; a lane looks at eight digits.
__device__ __forceinline__ void ChooseDigit(int wanted, TopList* list) {
  const int lane = threadIdx.x;
  int mine = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) mine += list->histogram[255 - 8 * lane - i];
  int above = mine;  // of this lane's digits and all above
#pragma unroll
  for (int offset = 1; offset < cuda::kWarp; offset *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, above, offset);
    if (lane >= offset) above += other;
  }
  // The last lane has it where too few entries are there.
  const uint32_t reached = __ballot_sync(0xffffffffu, above >= wanted);
  if (lane != (reached == 0 ? cuda::kWarp - 1 : __ffs(reached) - 1)) return;
  int left = wanted - (above - mine), digit = 255 - 8 * lane;
  for (const int last = digit - 7; digit > last; --digit) {
    if (list->histogram[digit] >= left) break;
    left -= list->histogram[digit];
  }
  list->left = left;
  list->digit = digit;
  list->is_exact = list->histogram[digit] == left;
}

// The largest value that `wanted` entries reach; 0 if there are no more than
// that. Radix selection, eight bits a pass, over whatever `visit` shows:
// visit(f) calls f(entry) for each. Every thread gets it.
template <typename Visit>
__device__ uint64_t SelectAmong(int wanted, TopList* list, const Visit& visit) {
  uint64_t prefix = 0;
  int left = wanted;
  for (int shift = 56;; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kThreads) list->histogram[i] = 0;
    __syncthreads();
    visit([&](uint64_t entry) {
      if (shift < 56 && entry >> (shift + 8) != prefix >> (shift + 8)) return;
      atomicAdd(&list->histogram[entry >> shift & 255], 1);
    });
    __syncthreads();
    if (threadIdx.x < cuda::kWarp) ChooseDigit(left, list);
    __syncthreads();
    prefix |= static_cast<uint64_t>(list->digit) << shift;
    left = list->left;
    if (list->is_exact || shift == 0) return prefix;
  }
}

__device__ __forceinline__ uint64_t SelectEntry(int count, int wanted,
                                                TopList* list) {
  if (count <= wanted) return 0;
  return SelectAmong(wanted, list, [&](const auto& f) {
    for (int i = threadIdx.x; i < count; i += kThreads) f(list->entries[i]);
  });
}

// Keeps the entries from `bar` on, in any order; yields their number.
__device__ __forceinline__ int Compact(int count, uint64_t bar, TopList* list) {
  uint64_t mine[kListCapacity / kThreads];
#pragma unroll
  for (int i = 0; i < kListCapacity / kThreads; ++i) {
    const int at = i * kThreads + threadIdx.x;
    mine[i] = at < count ? list->entries[at] : 0;
  }
  __syncthreads();
  if (threadIdx.x == 0) list->count = 0;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kListCapacity / kThreads; ++i) {
    if (mine[i] != 0 && mine[i] >= bar) {
      list->entries[atomicAdd(&list->count, 1)] = mine[i];
    }
  }
  __syncthreads();
  return list->count;
}

// Leaves at most `wanted` entries, the largest; yields their number.
__device__ __forceinline__ int Trim(int wanted, TopList* list) {
  __syncthreads();
  const int count = list->count;
  const uint64_t bar = SelectEntry(count, wanted, list);
  return bar == 0 ? count : Compact(count, bar, list);
}

// Adds up to kPerThread entries a thread, those of the set bits of `passing`
// that reach the bar. When the list is full, it is cut to its `wanted` largest
// and the bar is raised to the least of those. Every thread of the block calls
// it, with the same bar. REQUIRES: wanted <= kListCapacity / 2.
template <typename MakeEntry>
__device__ __forceinline__ void Push(uint32_t passing, const MakeEntry& entry,
                                     int wanted, uint64_t* bar, TopList* list) {
  while (true) {
    // What reaches the bar exactly; then room for a warp's in one go.
    for (uint32_t rest = passing; rest != 0; rest &= rest - 1) {
      const int i = __ffs(rest) - 1;
      if (entry(i) < *bar) passing &= ~(1u << i);
    }
    if (__any_sync(0xffffffffu, passing != 0)) {
      const int lane = threadIdx.x % cuda::kWarp;
      const int mine = __popc(passing);
      int end = mine;
#pragma unroll
      for (int offset = 1; offset < cuda::kWarp; offset *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, end, offset);
        if (lane >= offset) end += other;
      }
      int first = 0;
      if (lane == cuda::kWarp - 1) first = atomicAdd(&list->count, end);
      int at = __shfl_sync(0xffffffffu, first, cuda::kWarp - 1) + end - mine;
      for (; passing != 0 && at < kListCapacity; ++at) {
        list->entries[at] = entry(__ffs(passing) - 1);
        passing &= passing - 1;
      }
    }
    if (!__syncthreads_or(passing != 0)) return;
    const uint64_t raised = SelectEntry(kListCapacity, wanted, list);
    Compact(kListCapacity, raised, list);
    if (raised > *bar) *bar = raised;
  }
}

// Pushes entry(i) for all i in [0, count), those that are not 0.
template <typename MakeEntry>
__device__ __forceinline__ void PushAll(int count, const MakeEntry& entry,
                                        int wanted, uint64_t* bar,
                                        TopList* list) {
  for (int first = 0; first < count; first += kThreads) {
    const int i = first + threadIdx.x;
    const uint64_t mine = i < count ? entry(i) : 0;
    Push(
        mine != 0 ? 1u : 0u, [&](int) { return mine; }, wanted, bar, list);
  }
}

// A bar that at least `wanted` columns of a block's first chunk reach, by the
// maxima of groups of four columns. The list must be empty, and is after.
template <typename ValueAt>
__device__ __forceinline__ uint64_t FirstBar(const ValueAt& value, int wanted,
                                             TopList* list) {
  static_assert(kQuads * kThreads <= kListCapacity);
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    float max = value(quad * 4);
#pragma unroll
    for (int j = 1; j < 4; ++j) max = fmaxf(max, value(quad * 4 + j));
    list->entries[quad * kThreads + threadIdx.x] = uint64_t{KeyOf(max)} << 32;
  }
  __syncthreads();
  const uint64_t bar = SelectEntry(kQuads * kThreads, wanted, list);
  __syncthreads();
  // All columns of that value pass, whatever their ids.
  const uint64_t floor = bar >> 32 << 32;
  return floor > kLeastEntry ? floor : kLeastEntry;
}

// Descending.
__device__ inline void Sort(int count, TopList* list) {
  cuda::SortDescending<kThreads>(count, list->entries);
}

}  // namespace quire::row_scan

#endif  // KERNELS_CUDA_ROW_SCAN_CUH_
