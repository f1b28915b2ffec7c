// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/scan_logprobs.cuh"
#include "kernels/cuda/shard_logprobs.h"

namespace quire {
namespace {

using logprobs::kThreads;
using row_scan::SplitRows;
using row_scan::TopList;

// ListedTokens that a LogprobShard is as long as.
constexpr int kHeader = sizeof(LogprobShard) / sizeof(ListedToken);

__device__ __forceinline__ int64_t
SaidTokens(const ShardLogprobsParams& params) {
  return kHeader + int64_t{params.max_top};
}

// A thread a row.
__global__ void __launch_bounds__(kThreads)
    FindChosenKernel(const __grid_constant__ ShardLogprobsParams params) {
  const int row = blockIdx.x * kThreads + threadIdx.x;
  if (row >= params.num_rows) return;
  const int32_t logits_row = params.rows[row].row;
  // Negative of a ChoiceError, too.
  const int64_t column = int64_t{params.tokens[logits_row]} - params.first_id;
  const bool is_here = column >= 0 && column < params.num_vocab;
  const float logit =
      is_here ? params.logits[int64_t{logits_row} * params.num_vocab + column]
              : -INFINITY;
  static_cast<float*>(params.said)[row] = logit + 0.0f;
}

// What the one shard that has it says.
__device__ __forceinline__ float ChosenOf(const ShardLogprobsParams& params,
                                          int row) {
  float chosen = -INFINITY;
  for (int shard = 0; shard < params.num_shards; ++shard) {
    chosen =
        fmaxf(chosen, params.chosen[int64_t{shard} * params.num_rows + row]);
  }
  return chosen;
}

// Which block of a row comes last varies, and with it the order of its list.
__global__ void __launch_bounds__(kThreads, 2)
    SumShardKernel(const __grid_constant__ ShardLogprobsParams params,
                   const __grid_constant__ SplitRows split, int32_t* above) {
  __shared__ TopList list;
  const LogprobRow wish = params.rows[blockIdx.y];
  if (params.tokens[wish.row] < 0) return;  // all blocks of the row alike
  const row_scan::Row row = {
      params.logits + int64_t{wish.row} * params.num_vocab, params.num_vocab,
      nullptr, 0};
  const float chosen = ChosenOf(params, blockIdx.y);
  logprobs::RowScan scan;
  if (!ScanRow(row, split, wish.num_top, chosen, above, &list, &scan)) return;
  ListedToken* const said =
      static_cast<ListedToken*>(params.said) + blockIdx.y * SaidTokens(params);
  if (threadIdx.x == 0) {
    const float sum = static_cast<float>(scan.sum.sum);
    reinterpret_cast<LogprobShard&>(*said) = {
        scan.sum.max + 0.0f, sum, static_cast<float>(scan.sum.sum - sum),
        scan.num_above};
  }
  for (int i = threadIdx.x; i < wish.num_top; i += kThreads) {
    const uint64_t entry = i < scan.num_listed ? list.entries[i] : 0;
    said[kHeader + i] =
        entry == 0 ? ListedToken{-INFINITY, -1}
                   : ListedToken{row_scan::ValueOf(entry),
                                 params.first_id + row_scan::ColumnOf(entry)};
  }
}

// What all shards say of one row.
struct RowSums {
  const ListedToken* first;  // of shard 0
  int64_t stride;            // from shard to shard
  int num_shards;

  __device__ __forceinline__ LogprobShard shard(int i) const {
    return reinterpret_cast<const LogprobShard&>(first[i * stride]);
  }
  __device__ __forceinline__ ListedToken token(int i, int at) const {
    return first[i * stride + kHeader + at];
  }

  __device__ int NumAbove() const {
    int num_above = 0;
    for (int i = 0; i < num_shards; ++i) num_above += shard(i).num_above;
    return num_above;
  }
  // The logarithm of the sum of all exp(logit), added up in the shards' order.
  __device__ double LogSum() const {
    float max = -INFINITY;
    for (int i = 0; i < num_shards; ++i) max = fmaxf(max, shard(i).max);
    double sum = 0;
    for (int i = 0; i < num_shards; ++i) {
      const LogprobShard one = shard(i);
      // Of an empty shard 0 times exp(-infinity).
      sum += (static_cast<double>(one.sum) + one.rest) *
             exp(static_cast<double>(one.max) - max);
    }
    return max + log(sum);
  }
};

// The largest of all shards, sorted; yields their number.
__device__ __forceinline__ int SortLargest(const RowSums& sums, int wanted,
                                           TopList* list) {
  if (wanted == 0) return 0;
  const auto entry = [&](int i) {
    const ListedToken token = sums.token(i / wanted, i % wanted);
    return token.token_id < 0 ? uint64_t{0}
                              : row_scan::EntryOf(token.logit, token.token_id);
  };
  uint64_t bar = row_scan::kLeastEntry;
  row_scan::PushAll(sums.num_shards * wanted, entry, wanted, &bar, list);
  const int count = row_scan::Trim(wanted, list);
  row_scan::Sort(count, list);
  return count;
}

// A block a row.
__global__ void __launch_bounds__(kThreads, 2)
    MergeLogprobsKernel(const __grid_constant__ ShardLogprobsParams params) {
  __shared__ TopList list;
  const LogprobRow wish = params.rows[blockIdx.x];
  if (params.tokens[wish.row] < 0) return;
  const RowSums sums = {params.sums + blockIdx.x * SaidTokens(params),
                        params.num_rows * SaidTokens(params),
                        params.num_shards};
  int num_above = 0;
  if (threadIdx.x == 0) {
    list.count = 0;
    list.doubles[0] = sums.LogSum();
    num_above = sums.NumAbove();
  }
  __syncthreads();
  const double log_sum = list.doubles[0];
  const int count = SortLargest(sums, wish.num_top, &list);
  logprobs::Write(ChosenOf(params, blockIdx.x), log_sum, num_above, count, list,
                  params.logprobs + blockIdx.x);
}

}  // namespace

int64_t ShardLogprobsWorkspaceBytes(const ShardLogprobsParams& params,
                                    int32_t num_sms) {
  SplitRows split;
  return row_scan::Split(params.num_rows, params.num_vocab, num_sms,
                         params.max_top, nullptr, &split);
}

cudaError_t LaunchShardLogprobsCuda(const ShardLogprobsParams& params,
                                    int32_t* counters, void* workspace,
                                    int32_t num_sms, cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  switch (params.stage) {
    case LogprobStage::kChosen: {
      const dim3 blocks((params.num_rows + kThreads - 1) / kThreads);
      FindChosenKernel<<<blocks, kThreads, 0, stream>>>(params);
      break;
    }
    case LogprobStage::kSums: {
      SplitRows split;
      row_scan::Split(params.num_rows, params.num_vocab, num_sms,
                      params.max_top, workspace, &split);
      split.arrivals = counters;
      const dim3 grid(split.num_splits, params.num_rows);
      SumShardKernel<<<grid, kThreads, 0, stream>>>(params, split,
                                                    counters + params.num_rows);
      break;
    }
    case LogprobStage::kLogprobs:
      MergeLogprobsKernel<<<params.num_rows, kThreads, 0, stream>>>(params);
      break;
  }
  return cudaGetLastError();
}

}  // namespace quire
