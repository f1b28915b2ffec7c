// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/cuda/token_logprobs.h"

namespace quire {
namespace {

using row_scan::kPerThread;
using row_scan::kThreads;
using row_scan::kWarps;
using row_scan::Partial;
using row_scan::SplitRows;
using row_scan::TopList;

// Reads the block's chunks: sums, the largest, and how many are above `chosen`.
__device__ __forceinline__ int Scan(const row_scan::Row& row,
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

__device__ void Write(const row_scan::RowSum& sum, float chosen, int num_above,
                      int count, const TopList& list, TokenLogprobs* out) {
  const double log_sum = sum.max + log(sum.sum);
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

__global__ void __launch_bounds__(kThreads, 2)
    TokenLogprobsKernel(const __grid_constant__ ShapedChoiceParams params,
                        const __grid_constant__ SplitRows split,
                        int32_t* above) {
  __shared__ TopList list;
  const LogprobRow wish = params.logprob_rows[blockIdx.y];
  const row_scan::Row row = {
      params.logits + int64_t{wish.row} * params.num_vocab, params.num_vocab,
      nullptr, 0};
  const int32_t token = params.tokens[wish.row];
  if (token < 0) return;  // all blocks of the row alike
  const float chosen = row.logits[token];
  if (threadIdx.x == 0) list.count = 0;
  __syncthreads();
  int num_above = Scan(row, split, wish.num_top, chosen, &list);
  num_above = __reduce_add_sync(0xffffffffu, num_above);
  if (threadIdx.x % cuda::kWarp == 0) {
    atomicAdd(&above[blockIdx.y], num_above);
  }
  __threadfence();
  __syncthreads();
  if (!ArriveLast(split, wish.num_top, &list)) return;
  const row_scan::RowSum sum = SumUp(split, 1.0f, &list);
  const int count = row_scan::Trim(wish.num_top, &list);
  row_scan::Sort(count, &list);
  Write(sum, chosen, __ldcg(&above[blockIdx.y]), count, list,
        params.logprobs + blockIdx.y);
  __syncthreads();
  if (threadIdx.x == 0) above[blockIdx.y] = 0;
}

}  // namespace

int64_t TokenLogprobsWorkspaceBytes(int32_t num_rows, int32_t num_vocab,
                                    int32_t num_sms) {
  SplitRows split;
  return row_scan::Split(num_rows, num_vocab, num_sms, kMaxTopLogprobs, nullptr,
                         &split);
}

cudaError_t LaunchTokenLogprobsCuda(const ShapedChoiceParams& params,
                                    int32_t* counters, void* workspace,
                                    int32_t num_sms, cudaStream_t stream) {
  if (params.num_logprobs <= 0) return cudaSuccess;
  SplitRows split;
  row_scan::Split(params.num_logprobs, params.num_vocab, num_sms,
                  kMaxTopLogprobs, workspace, &split);
  split.arrivals = counters;
  const dim3 grid(split.num_splits, params.num_logprobs);
  TokenLogprobsKernel<<<grid, kThreads, 0, stream>>>(
      params, split, counters + params.num_logprobs);
  return cudaGetLastError();
}

}  // namespace quire
