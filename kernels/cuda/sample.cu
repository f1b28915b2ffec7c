// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/row_scan.cuh"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/sample_lists.cuh"
#include "kernels/cuda/sample_piece.cuh"
#include "kernels/cuda/sample_top.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/philox.h"

namespace quire {
namespace {

using namespace sampling;  // NOLINT: its other half
using row_scan::KeyOf;

__host__ __device__ int64_t Align(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

SampleWorkspace Split(int32_t num_rows, int32_t num_vocab, char* base,
                      int64_t* bytes) {
  SampleWorkspace w;
  w.num_pieces = (num_vocab + kPiece - 1) / kPiece;
  w.bitmap_words = (num_vocab + 31) / 32;
  const int64_t pieces = int64_t{num_rows} * (w.num_pieces + 1);
  int64_t end = 0;
  w.listed = reinterpret_cast<uint32_t*>(base + end);
  end += Align(int64_t{num_rows} * w.bitmap_words * sizeof(uint32_t));
  w.pieces = reinterpret_cast<PieceSummary*>(base + end);
  end += Align(pieces * sizeof(PieceSummary));
  w.maxima = reinterpret_cast<uint32_t*>(base + end);
  end += Align(pieces * kThreads * sizeof(uint32_t));
  *bytes = end;
  return w;
}

// exp(value - max) by the special function unit: within 1e-6 of itself for
// shares that count.
__device__ __forceinline__ float SumShare(float value, float max) {
  return max == -INFINITY ? 0.0f : __expf(value - max);
}

// Marks the columns that a row's lists name. One block a row.
__global__ void __launch_bounds__(kThreads)
    MarkListedKernel(const __grid_constant__ CudaSampleParams params,
                     const __grid_constant__ SampleWorkspace work) {
  const CudaSampleRow& row = params.rows[blockIdx.x];
  if (row.num_seen + row.num_masked == 0) return;
  uint32_t* listed = work.listed + int64_t{blockIdx.x} * work.bitmap_words;
  for (int i = threadIdx.x; i < work.bitmap_words; i += kThreads) listed[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < row.num_seen + row.num_masked; i += kThreads) {
    const int32_t id = i < row.num_seen
                           ? params.seen[row.first_seen + i].token_id
                           : params.masked[row.first_masked + i - row.num_seen];
    const int64_t column = int64_t{id} - params.first_id;
    if (column < 0 || column >= params.num_vocab) continue;
    atomicOr(&listed[column / 32], 1u << (column % 32));
  }
}

// The seen tokens of a row, as if they were a piece of their own.
__device__ void SummarizeLists(const CudaSampleParams& params,
                               const CudaSampleRow& row, const float* logits,
                               PieceShared* shared, PieceSummary* out,
                               uint32_t* maximum) {
  float max = -INFINITY;
  Best best = {-INFINITY, -1};
  for (int i = threadIdx.x; i < row.num_seen; i += kThreads) {
    const SeenToken token = params.seen[row.first_seen + i];
    const int64_t column = int64_t{token.token_id} - params.first_id;
    if (column < 0 || column >= params.num_vocab) continue;
    const float logit = Penalised(params, row, token, logits[column]);
    max = fmaxf(max, logit);
    const float noise = row.is_greedy
                            ? 0.0f
                            : Gumbel(UniformOf(TokenRandomWord(
                                  row.seed, row.position, token.token_id)));
    const Best mine = {logit + noise, token.token_id};
    if (mine.value > -INFINITY && IsBetter(mine, best)) best = mine;
  }
  *maximum = KeyOf(max);
  max = cuda::BlockMax(max, shared->floats);
  float sum = 0.0f;
  for (int i = threadIdx.x; i < row.num_seen; i += kThreads) {
    const SeenToken token = params.seen[row.first_seen + i];
    const int64_t column = int64_t{token.token_id} - params.first_id;
    if (column < 0 || column >= params.num_vocab) continue;
    sum += SumShare(Penalised(params, row, token, logits[column]), max);
  }
  sum = cuda::BlockSum(sum, shared->floats);
  best = BlockBest(best, shared->best);
  if (threadIdx.x == 0) *out = {-INFINITY, 0.0f, max, sum, best};
}

__global__ void __launch_bounds__(kThreads)
    SummarizeKernel(const __grid_constant__ CudaSampleParams params,
                    const __grid_constant__ SampleWorkspace work) {
  __shared__ PieceShared shared;
  const int piece = blockIdx.x;
  const int64_t row_idx = blockIdx.y;
  const CudaSampleRow row = params.rows[row_idx];
  const float* logits = params.logits + row_idx * params.num_vocab;
  const int64_t piece_idx = row_idx * (work.num_pieces + 1) + piece;
  PieceSummary* out = work.pieces + piece_idx;
  uint32_t* maximum = work.maxima + piece_idx * kThreads + threadIdx.x;
  if (piece == work.num_pieces) {
    SummarizeLists(params, row, logits, &shared, out, maximum);
    return;
  }
  const bool has_lists = row.num_seen + row.num_masked > 0;
  const Columns columns = LoadColumns(
      logits, piece, params.num_vocab,
      has_lists ? work.listed + row_idx * work.bitmap_words : nullptr);
  PieceSummary summary;
  const float inverse = 1.0f / row.divisor;
  float raw_max = -INFINITY, max = -INFINITY;
  float kept[kPerThread];  // raw, but for listed columns
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    raw_max = fmaxf(raw_max, columns.raw[i]);
    kept[i] = columns.not_listed >> i & 1 ? columns.raw[i] : -INFINITY;
    max = fmaxf(max, kept[i]);
  }
  *maximum = KeyOf(max / row.divisor);  // division keeps the order
  if (__syncthreads_or(columns.is_bad)) {
    if (threadIdx.x == 0) {
      *out = {NAN, NAN, NAN, NAN, {-INFINITY, -1}};
    }
    return;
  }
  summary.raw_max = cuda::BlockMax(raw_max, shared.floats);
  float raw_sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    raw_sum += SumShare(columns.raw[i], summary.raw_max);
  }
  summary.raw_sum = cuda::BlockSum(raw_sum, shared.floats);
  if (has_lists || row.divisor != 1.0f) {
    const float kept_max = cuda::BlockMax(max, shared.floats);
    float sum = 0.0f;
    if (kept_max > -INFINITY) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        sum += __expf((kept[i] - kept_max) * inverse);
      }
    }
    summary.max = kept_max / row.divisor;
    summary.sum = cuda::BlockSum(sum, shared.floats);
  } else {
    summary.max = summary.raw_max;
    summary.sum = summary.raw_sum;
  }
  summary.best = FindBest(row, params.first_id, piece, inverse, kept, &shared);
  if (threadIdx.x == 0) *out = summary;
}

// A warp a row; lanes take pieces in turn, and lanes are added in their order.
__global__ void __launch_bounds__(cuda::kWarp)
    CombineKernel(const __grid_constant__ CudaSampleParams params,
                  const __grid_constant__ SampleWorkspace work) {
  const int64_t row_idx = blockIdx.x;
  const int count = work.num_pieces + 1;
  const PieceSummary* pieces = work.pieces + row_idx * count;
  float raw_max = -INFINITY, max = -INFINITY;
  Best best = {-INFINITY, -1};
  bool is_bad = false;
  for (int i = threadIdx.x; i < count; i += cuda::kWarp) {
    is_bad |= isnan(pieces[i].raw_max);
    raw_max = fmaxf(raw_max, pieces[i].raw_max);
    max = fmaxf(max, pieces[i].max);
    if (IsBetter(pieces[i].best, best)) best = pieces[i].best;
  }
  is_bad = __any_sync(0xffffffffu, is_bad);
  raw_max = cuda::WarpMax(raw_max);
  max = cuda::WarpMax(max);
  float raw_sum = 0.0f, sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += cuda::kWarp) {
    raw_sum += pieces[i].raw_sum * SumShare(pieces[i].raw_max, raw_max);
    sum += pieces[i].sum * SumShare(pieces[i].max, max);
  }
  raw_sum = cuda::WarpSum(raw_sum);
  sum = cuda::WarpSum(sum);
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const Best other = {__shfl_xor_sync(0xffffffffu, best.value, offset),
                        __shfl_xor_sync(0xffffffffu, best.id, offset)};
    if (IsBetter(other, best)) best = other;
  }
  if (threadIdx.x != 0) return;
  ShardSummary& summary = params.summaries[row_idx];
  if (is_bad) {
    summary = {NAN, NAN, NAN, NAN, NAN, -1, NAN, -INFINITY, 0};
    return;
  }
  const float* logits = params.logits + row_idx * params.num_vocab;
  summary = {raw_max,
             raw_sum,
             max,
             sum,
             best.value,
             best.id,
             best.id < 0 ? -INFINITY : logits[best.id - params.first_id],
             -INFINITY,
             0};
}

}  // namespace

int64_t CudaSampleWorkspaceBytes(int32_t num_rows, int32_t num_vocab) {
  int64_t bytes = 0;
  Split(num_rows, num_vocab, nullptr, &bytes);
  return bytes;
}

cudaError_t LaunchSampleShardCuda(const CudaSampleParams& params,
                                  cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  int64_t bytes = 0;
  const SampleWorkspace work =
      Split(params.num_rows, params.num_vocab,
            static_cast<char*>(params.workspace), &bytes);
  if (params.num_listed > 0) {
    MarkListedKernel<<<params.num_rows, kThreads, 0, stream>>>(params, work);
  }
  const dim3 grid(work.num_pieces + 1, params.num_rows);
  SummarizeKernel<<<grid, kThreads, 0, stream>>>(params, work);
  CombineKernel<<<params.num_rows, cuda::kWarp, 0, stream>>>(params, work);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess && params.num_candidates > 0
             ? LaunchTopCandidates(params, work, stream)
             : error;
}

}  // namespace quire
