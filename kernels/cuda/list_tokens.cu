// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/filtered_row.cuh"
#include "kernels/cuda/list_tokens.h"
#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/scan_filtered.cuh"
#include "kernels/cuda/split_rows.cuh"

namespace quire {
namespace {

using row_scan::RowSum;
using row_scan::SplitRows;
using row_scan::TopList;
using sampling::FilteredRow;
using sampling::kThreads;
using sampling::kWarps;

// Which block of a row comes last varies, and with it the order of its list.
__global__ void __launch_bounds__(kThreads, 2)
    ListTokensKernel(const __grid_constant__ ListTokensParams params,
                     const __grid_constant__ SplitRows split) {
  __shared__ TopList list;
  const FilteredRow row =
      sampling::RowAt(params.logits, params.num_vocab, /*allowed=*/nullptr,
                      params.rows[blockIdx.y]);
  if (threadIdx.x == 0) list.count = 0;
  __syncthreads();
  sampling::Scan(row, split, &list);
  if (!ArriveLast(split, row.wanted(), &list)) return;
  const RowSum sum = SumUp(split, row.inverse, &list);
  const int count = row_scan::Trim(row.wanted(), &list);
  ListedToken* const out =
      params.lists + int64_t{blockIdx.y} * (1 + params.max_tokens);
  if (threadIdx.x == 0) {
    reinterpret_cast<ListedShard&>(*out) = {
        sum.max, isnan(sum.sum) ? int32_t{kLogitsNotFinite} : count};
  }
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const uint64_t entry = list.entries[i];
    out[1 + i] = {row_scan::ValueOf(entry),
                  params.first_id + row_scan::ColumnOf(entry)};
  }
}

// What all shards say of one row.
struct RowLists {
  const ListedToken* first;  // of shard 0
  int64_t stride;            // from shard to shard
  int num_shards;

  __device__ __forceinline__ ListedShard shard(int i) const {
    return reinterpret_cast<const ListedShard&>(first[i * stride]);
  }
  __device__ __forceinline__ ListedToken token(int i, int at) const {
    return first[i * stride + 1 + at];
  }
};

__device__ __forceinline__ RowSum SumOf(const RowLists& lists) {
  RowSum sum = {-INFINITY, 0};
  for (int i = 0; i < lists.num_shards; ++i) {
    const ListedShard shard = lists.shard(i);
    sum.max = fmaxf(sum.max, shard.max);
    if (shard.num_tokens < 0) sum.sum = NAN;
  }
  return sum;
}

// The largest of all lists.
__device__ __forceinline__ int CollectLargest(const RowLists& lists, int wanted,
                                              TopList* list) {
  if (threadIdx.x == 0) list->count = 0;
  __syncthreads();
  const auto entry = [&](int i) {
    const int shard = i / wanted, at = i % wanted;
    if (at >= lists.shard(shard).num_tokens) return uint64_t{0};
    const ListedToken token = lists.token(shard, at);
    return row_scan::EntryOf(token.logit, token.token_id);
  };
  uint64_t bar = row_scan::kLeastEntry;
  row_scan::PushAll(lists.num_shards * wanted, entry, wanted, &bar, list);
  return row_scan::Trim(wanted, list);
}

__global__ void __launch_bounds__(kThreads, 2)
    MergeListsKernel(const __grid_constant__ MergeListsParams params) {
  __shared__ TopList list;
  __shared__ sampling::Noisy shared_noisy[kWarps];
  const ShapedRow& shaped = params.rows[blockIdx.x];
  const FilteredRow row = sampling::RowAt(/*logits=*/nullptr, /*num_vocab=*/0,
                                          /*allowed=*/nullptr, shaped);
  const int64_t row_stride = 1 + params.max_tokens;
  const RowLists lists = {params.lists + blockIdx.x * row_stride,
                          params.num_rows * row_stride, params.num_shards};
  const RowSum sum = SumOf(lists);
  int32_t token = sampling::ErrorOf(row, sum);
  if (token == 0) {
    const int count = CollectLargest(lists, row.wanted(), &list);
    token = sampling::ChooseListed(row, count, sum, &list, shared_noisy);
  }
  if (threadIdx.x != 0) return;
  params.tokens[shaped.row] = token;
  params.by_slot[shaped.slot] = token;
}

}  // namespace

int64_t ListTokensWorkspaceBytes(const ListTokensParams& params,
                                 int32_t num_sms) {
  SplitRows split;
  return row_scan::Split(params.num_rows, params.num_vocab, num_sms,
                         params.max_tokens, nullptr, &split);
}

cudaError_t LaunchListTokensCuda(const ListTokensParams& params,
                                 int32_t* arrivals, void* workspace,
                                 int32_t num_sms, cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  SplitRows split;
  row_scan::Split(params.num_rows, params.num_vocab, num_sms, params.max_tokens,
                  workspace, &split);
  split.arrivals = arrivals;
  const dim3 grid(split.num_splits, params.num_rows);
  ListTokensKernel<<<grid, kThreads, 0, stream>>>(params, split);
  return cudaGetLastError();
}

cudaError_t LaunchMergeListsCuda(const MergeListsParams& params,
                                 cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  MergeListsKernel<<<params.num_rows, kThreads, 0, stream>>>(params);
  return cudaGetLastError();
}

}  // namespace quire
