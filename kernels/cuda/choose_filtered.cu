// SPDX-License-Identifier: Apache-2.0
#include <cfloat>
#include <cstdint>

#include "kernels/cuda/choose_filtered.h"
#include "kernels/cuda/filtered_row.cuh"
#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/split_rows.cuh"

namespace quire {
namespace {

using row_scan::Partial;
using row_scan::RowSum;
using row_scan::SplitRows;
using row_scan::TopList;
using sampling::FilteredRow;
using sampling::kPerThread;
using sampling::kThreads;
using sampling::kWarps;

constexpr float kGreedyTemperature = 1e-5f;  // kernels/sample.h

__device__ FilteredRow RowAt(const ShapedChoiceParams& params,
                             const ShapedRow& shaped) {
  FilteredRow row;
  row.row.logits = params.logits + int64_t{shaped.row} * params.num_vocab;
  row.row.num_vocab = params.num_vocab;
  row.row.allowed = shaped.first_allowed < 0
                        ? nullptr
                        : params.allowed + shaped.first_allowed;
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
                                     const SplitRows& split, TopList* list) {
  const auto [begin, end] = MyChunks(split);
  Partial* const partials = PartialsOf(split);
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
    const Partial partial = row_scan::WarpPartial(raw, row.inverse);
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

__device__ int32_t Decide(const FilteredRow& row, const RowSum& sum,
                          TopList* list, sampling::Noisy* shared_noisy,
                          sampling::Best* shared_best) {
  if (isnan(sum.sum)) return kLogitsNotFinite;
  if (sum.max == -INFINITY) return kNoToken;
  if (sum.max / row.divisor == INFINITY) return kLogitsOverflow;
  const int count = row_scan::Trim(row.wanted(), list);
  const int32_t token =
      sampling::ChooseListed(row, count, sum, list, shared_noisy);
  return token == sampling::kUndecided
             ? sampling::ChooseByPasses(row, sum, list, shared_best)
             : token;
}

// Which block of a row comes last varies, the token does not.
__global__ void __launch_bounds__(kThreads, 2)
    ChooseFilteredKernel(const __grid_constant__ ShapedChoiceParams params,
                         const __grid_constant__ SplitRows split) {
  __shared__ TopList list;
  __shared__ sampling::Noisy shared_noisy[kWarps];
  __shared__ sampling::Best shared_best[cuda::kWarp];
  const ShapedRow& shaped = params.rows[params.num_unfiltered + blockIdx.y];
  const FilteredRow row = RowAt(params, shaped);
  if (threadIdx.x == 0) list.count = 0;
  __syncthreads();
  Scan(row, split, &list);
  if (!ArriveLast(split, row.wanted(), &list)) return;
  const RowSum sum = SumUp(split, row.inverse, &list);
  const int32_t token = Decide(row, sum, &list, shared_noisy, shared_best);
  if (threadIdx.x != 0) return;
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
                                     int32_t* arrivals, void* workspace,
                                     int32_t num_sms, cudaStream_t stream) {
  if (params.num_filtered <= 0) return cudaSuccess;
  SplitRows split;
  row_scan::Split(params.num_filtered, params.num_vocab, num_sms, kMaxListed,
                  workspace, &split);
  split.arrivals = arrivals;
  const dim3 grid(split.num_splits, params.num_filtered);
  ChooseFilteredKernel<<<grid, kThreads, 0, stream>>>(params, split);
  return cudaGetLastError();
}

}  // namespace quire
