// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/scan_logprobs.cuh"
#include "kernels/cuda/token_logprobs.h"

namespace quire {
namespace {

using logprobs::kThreads;
using row_scan::SplitRows;
using row_scan::TopList;

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
  logprobs::RowScan scan;
  if (!ScanRow(row, split, wish.num_top, chosen, above, &list, &scan)) return;
  row_scan::Sort(scan.num_listed, &list);
  logprobs::Write(chosen, scan.sum.max + log(scan.sum.sum), scan.num_above,
                  scan.num_listed, list, params.logprobs + blockIdx.y);
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
