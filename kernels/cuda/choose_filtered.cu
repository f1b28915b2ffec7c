// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/choose_filtered.h"
#include "kernels/cuda/filtered_row.cuh"
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

// The row's token, or kUndecided: it is left to others.
__device__ int32_t Decide(const FilteredRow& row, const RowSum& sum,
                          TopList* list, sampling::Noisy* shared_noisy,
                          sampling::Best* shared_best) {
  if (const int32_t error = sampling::ErrorOf(row, sum); error != 0) {
    return error;
  }
  const int count = row_scan::Trim(row.wanted(), list);
  const int32_t token =
      sampling::ChooseListed(row, count, sum, list, shared_noisy);
  return token == sampling::kUndecided && row.top_k > 0
             ? sampling::ChooseByPasses(row, sum, list, shared_best)
             : token;
}

// Which block of a row comes last varies, the token does not.
__global__ void __launch_bounds__(kThreads, 2)
    ChooseFilteredKernel(const __grid_constant__ ShapedChoiceParams params,
                         const __grid_constant__ LeftRows left,
                         const __grid_constant__ SplitRows split) {
  __shared__ TopList list;
  __shared__ sampling::Noisy shared_noisy[kWarps];
  __shared__ sampling::Best shared_best[cuda::kWarp];
  const int index = params.num_unfiltered + blockIdx.y;
  const ShapedRow& shaped = params.rows[index];
  const FilteredRow row =
      sampling::RowAt(params.logits, params.num_vocab, params.allowed, shaped);
  if (threadIdx.x == 0) list.count = 0;
  __syncthreads();
  sampling::Scan(row, split, &list);
  if (!ArriveLast(split, row.wanted(), &list)) return;
  const RowSum sum = SumUp(split, row.inverse, &list);
  const int32_t token = Decide(row, sum, &list, shared_noisy, shared_best);
  if (threadIdx.x != 0) return;
  if (token == sampling::kUndecided) {
    const int at = atomicAdd(left.count, 1);
    left.rows[at] = index;
    left.states[at] = {sum.max, 0, 0, 0, 0, 0};
    return;
  }
  params.tokens[shaped.row] = token;
  params.by_slot[shaped.slot] = token;
}

}  // namespace

int64_t ChooseFilteredWorkspaceBytes(int32_t num_rows, int32_t num_vocab,
                                     int32_t num_sms) {
  SplitRows split;
  return row_scan::Split(num_rows, num_vocab, num_sms, kMaxListed, nullptr,
                         &split);
}

cudaError_t LaunchChooseFilteredCuda(const ShapedChoiceParams& params,
                                     const LeftRows& left, int32_t* arrivals,
                                     void* workspace, int32_t num_sms,
                                     cudaStream_t stream) {
  if (params.num_filtered <= 0) return cudaSuccess;
  SplitRows split;
  row_scan::Split(params.num_filtered, params.num_vocab, num_sms, kMaxListed,
                  workspace, &split);
  split.arrivals = arrivals;
  const dim3 grid(split.num_splits, params.num_filtered);
  ChooseFilteredKernel<<<grid, kThreads, 0, stream>>>(params, left, split);
  return cudaGetLastError();
}

}  // namespace quire
