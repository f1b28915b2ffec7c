// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/sample_lists.cuh"
#include "kernels/cuda/sample_piece.cuh"
#include "kernels/cuda/sample_top.h"
#include "kernels/cuda/sort_entries.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire::sampling {
namespace {

using row_scan::KeyOf;
using row_scan::kNegInfKey;
using row_scan::OfKey;

// One block a row.
constexpr int kTopThreads = 1024;
constexpr int kMaxGathered = 4096;
static_assert(kMaxGathered >= kMaxCudaCandidates);

struct TopShared {
  uint64_t gathered[kMaxGathered];
  int32_t histogram[256];
  int32_t count;
  uint32_t prefix;
  int32_t wanted;
};

// Adds to the prefix the digit at `shift` of the wanted-th largest key, whose
// histogram is given. A warp calls it; a lane looks at eight digits.
__device__ __forceinline__ void ChooseDigit(int shift, TopShared* shared) {
  const int lane = threadIdx.x;
  const int wanted = shared->wanted;
  int mine = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) mine += shared->histogram[255 - 8 * lane - i];
  int above = mine;  // of this lane's digits and all above
#pragma unroll
  for (int offset = 1; offset < cuda::kWarp; offset *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, above, offset);
    if (lane >= offset) above += other;
  }
  // The last lane has it where too few keys are there.
  const uint32_t reached = __ballot_sync(0xffffffffu, above >= wanted);
  if (lane != (reached == 0 ? cuda::kWarp - 1 : __ffs(reached) - 1)) return;
  int left = wanted - (above - mine), digit = 255 - 8 * lane;
  for (const int last = digit - 7; digit > last; --digit) {
    if (shared->histogram[digit] >= left) break;
    left -= shared->histogram[digit];
  }
  shared->wanted = left;
  shared->prefix |= static_cast<uint32_t>(digit) << shift;
}

// A key that at least `wanted` of `keys` reach, and as large as there is: radix
// selection, eight bits a pass. kNegInfKey + 1 if fewer are above -infinity.
__device__ uint32_t SelectKey(const uint32_t* keys, int count, int wanted,
                              TopShared* shared) {
  if (threadIdx.x == 0) {
    shared->prefix = 0;
    shared->wanted = wanted;
  }
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += kTopThreads) {
      shared->histogram[i] = 0;
    }
    __syncthreads();
    const uint32_t prefix = shared->prefix;
    for (int i = threadIdx.x; i < count; i += kTopThreads) {
      const uint32_t key = keys[i];
      if (shift < 24 && key >> (shift + 8) != prefix >> (shift + 8)) continue;
      atomicAdd(&shared->histogram[key >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x < cuda::kWarp) ChooseDigit(shift, shared);
    __syncthreads();
  }
  const uint32_t key = shared->prefix;
  return key > kNegInfKey ? key : kNegInfKey + 1;
}

__device__ __forceinline__ void Gather(float logit, int32_t column,
                                       uint32_t bar, TopShared* shared) {
  const uint32_t key = KeyOf(logit);
  if (key < bar) return;
  const int at = atomicAdd(&shared->count, 1);
  if (at < kMaxGathered) {
    shared->gathered[at] = uint64_t{key} << 32 | static_cast<uint32_t>(~column);
  }
}

__global__ void __launch_bounds__(kTopThreads)
    TopCandidatesKernel(const __grid_constant__ CudaSampleParams params,
                        const __grid_constant__ SampleWorkspace work) {
  __shared__ TopShared shared;
  const int64_t row_idx = blockIdx.x;
  const CudaSampleRow row = params.rows[row_idx];
  const float* logits = params.logits + row_idx * params.num_vocab;
  const int num_maxima = (work.num_pieces + 1) * kThreads;
  const bool is_bad = isnan(params.summaries[row_idx].raw_max);
  if (threadIdx.x == 0) shared.count = 0;
  const uint32_t bar = SelectKey(work.maxima + row_idx * num_maxima, num_maxima,
                                 params.num_candidates, &shared);
  if (!is_bad) {
    const bool has_lists = row.num_seen + row.num_masked > 0;
    const uint32_t* listed =
        has_lists ? work.listed + row_idx * work.bitmap_words : nullptr;
    // What a product falls short of a quotient by, and more.
    const float inverse = 1.0f / row.divisor;
    const float bar_value = OfKey(bar);
    const float near = bar_value - 1e-6f * fabsf(bar_value) - 1e-30f;
    const auto gather = [&](int i, float logit) {
      if (logit * inverse < near) return;
      if (listed != nullptr && listed[i / 32] >> (i % 32) & 1) return;
      Gather(logit / row.divisor, i, bar, &shared);
    };
    // Sixteen at a time, four next to each other, from where their address
    // allows it; all loads before the first look.
    const int head = static_cast<int>(
        (16 - reinterpret_cast<uintptr_t>(logits) % 16) % 16 / sizeof(float));
    const int begin = head < params.num_vocab ? head : params.num_vocab;
    constexpr int kStep = 16 * kTopThreads;
    const int end = begin + (params.num_vocab - begin) / kStep * kStep;
    for (int i = threadIdx.x; i < begin; i += kTopThreads) gather(i, logits[i]);
    for (int i = begin + 4 * threadIdx.x; i < end; i += kStep) {
      float v[4][4];
#pragma unroll
      for (int quad = 0; quad < 4; ++quad) {
        cuda::Load(logits + i + quad * 4 * kTopThreads, v[quad]);
      }
#pragma unroll
      for (int quad = 0; quad < 4; ++quad) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          gather(i + quad * 4 * kTopThreads + j, v[quad][j]);
        }
      }
    }
    for (int i = end + threadIdx.x; i < params.num_vocab; i += kTopThreads) {
      gather(i, logits[i]);
    }
    for (int i = threadIdx.x; i < row.num_seen; i += kTopThreads) {
      const SeenToken token = params.seen[row.first_seen + i];
      const int64_t column = int64_t{token.token_id} - params.first_id;
      if (column < 0 || column >= params.num_vocab) continue;
      Gather(Penalised(params, row, token, logits[column]),
             static_cast<int32_t>(column), bar, &shared);
    }
  }
  __syncthreads();
  const int count = shared.count;
  if (threadIdx.x == 0) params.overflowed[row_idx] = count > kMaxGathered;
  if (count > kMaxGathered) return;
  cuda::SortDescending<kTopThreads>(count, shared.gathered);
  Candidate* out = params.candidates + row_idx * int64_t{params.num_candidates};
  for (int i = threadIdx.x; i < params.num_candidates; i += kTopThreads) {
    Candidate candidate = {-INFINITY, -INFINITY, -1};
    if (i < count) {
      const uint64_t key = shared.gathered[i];
      const int32_t column = static_cast<int32_t>(~static_cast<uint32_t>(key));
      candidate = {OfKey(static_cast<uint32_t>(key >> 32)), logits[column],
                   params.first_id + column};
    }
    out[i] = candidate;
  }
}

}  // namespace

cudaError_t LaunchTopCandidates(const CudaSampleParams& params,
                                const SampleWorkspace& work,
                                cudaStream_t stream) {
  TopCandidatesKernel<<<params.num_rows, kTopThreads, 0, stream>>>(params,
                                                                   work);
  return cudaGetLastError();
}

}  // namespace quire::sampling
