// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/allowed.cuh"
#include "kernels/cuda/choose_tokens.h"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/sample_piece.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using sampling::Best;
using sampling::kPerThread;
using sampling::kPiece;
using sampling::kThreads;

constexpr float kGreedyTemperature = 1e-5f;  // kernels/sample.h

// What a piece says of its columns.
struct ChoicePiece {
  Best best;
  float max;
  int32_t is_bad;
};

struct Workspace {
  int32_t* arrivals;    // [num_rows] pieces that are done; 0 between launches
  ChoicePiece* pieces;  // [num_rows, num_pieces]
  int32_t num_pieces;
};

int32_t NumPieces(int32_t num_vocab) {
  return (num_vocab + kPiece - 1) / kPiece;
}

int64_t ArrivalBytes(int32_t num_rows) {
  return (num_rows * int64_t{sizeof(int32_t)} + 255) / 256 * 256;
}

// What a kernel chooses from: the i-th of `rows` is for the i-th row of logits,
// or for the one that it names.
template <typename RowT>
struct Choice {
  const float* logits;
  const RowT* rows;
  const uint32_t* allowed;
  int32_t* tokens;
  int32_t* by_slot;
  ShardChoice* choices;  // null: tokens are written
  int32_t first_id;
  int32_t num_vocab;
};

__device__ __forceinline__ int32_t LogitsRow(const ChoiceRow& /*row*/) {
  return blockIdx.y;
}
__device__ __forceinline__ int32_t LogitsRow(const ShapedRow& row) {
  return row.row;
}

__device__ __forceinline__ void Restrict(const ChoiceRow& /*row*/,
                                         const uint32_t* /*allowed*/,
                                         int /*piece*/,
                                         sampling::Columns* /*columns*/) {}
__device__ __forceinline__ void Restrict(const ShapedRow& row,
                                         const uint32_t* allowed, int piece,
                                         sampling::Columns* columns) {
  if (row.first_allowed < 0) return;
  cuda::ApplyAllowed(
      allowed + row.first_allowed, row.num_allowed_words,
      [&](int quad) { return sampling::ColumnOf(piece, quad); }, columns->raw);
}

// The first warp of a row's last block turns its pieces into the token.
template <typename RowT>
__device__ void Combine(const Choice<RowT>& params, const Workspace& work,
                        const RowT& row, int32_t row_idx) {
  const int lane = threadIdx.x;
  const ChoicePiece* pieces = work.pieces + int64_t{row_idx} * work.num_pieces;
  Best best = {-INFINITY, -1};
  float max = -INFINITY;
  bool is_bad = false;
  for (int i = lane; i < work.num_pieces; i += cuda::kWarp) {
    // Other blocks wrote them: not from this one's first-level cache.
    const int4 words = __ldcg(reinterpret_cast<const int4*>(pieces + i));
    const Best mine = {__int_as_float(words.x), words.y};
    if (sampling::IsBetter(mine, best)) best = mine;
    max = fmaxf(max, __int_as_float(words.z));
    is_bad |= words.w != 0;
  }
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const Best other = {__shfl_xor_sync(0xffffffffu, best.value, offset),
                        __shfl_xor_sync(0xffffffffu, best.id, offset)};
    if (sampling::IsBetter(other, best)) best = other;
  }
  max = cuda::WarpMax(max);
  is_bad = __any_sync(0xffffffffu, is_bad);
  if (lane != 0) return;
  work.arrivals[row_idx] = 0;
  if (params.choices != nullptr) {
    params.choices[row_idx] = {best.value, best.id, max, is_bad ? 1 : 0};
    return;
  }
  int32_t token = best.id < 0 ? int32_t{kNoToken} : best.id;
  if (max == INFINITY) token = kLogitsOverflow;
  if (is_bad) token = kLogitsNotFinite;
  params.tokens[LogitsRow(row)] = token;
  params.by_slot[row.slot] = token;
}

// A block a piece and row. Which block comes last varies, the token does not.
template <typename RowT>
__global__ void __launch_bounds__(kThreads)
    ChooseTokensKernel(const __grid_constant__ Choice<RowT> params,
                       const __grid_constant__ Workspace work) {
  static_assert(sizeof(ChoicePiece) == sizeof(int4));
  __shared__ sampling::PieceShared shared;
  __shared__ bool is_last;
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int piece = blockIdx.x;
  const int32_t row_idx = blockIdx.y;
  const RowT choice = params.rows[row_idx];
  if (choice.slot < 0) return;
  CudaSampleRow row = {};
  row.seed = choice.seed;
  row.position = choice.position;
  row.is_greedy = choice.temperature < kGreedyTemperature;
  row.divisor = row.is_greedy ? 1.0f : choice.temperature;
  const float* logits =
      params.logits + int64_t{LogitsRow(choice)} * params.num_vocab;
  sampling::Columns columns =
      sampling::LoadColumns(logits, piece, params.num_vocab, nullptr);
  Restrict(choice, params.allowed, piece, &columns);
  ChoicePiece mine = {{-INFINITY, -1}, -INFINITY, 0};
  mine.is_bad = __syncthreads_or(columns.is_bad);
  if (!mine.is_bad) {
    float max = -INFINITY;
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) max = fmaxf(max, columns.raw[i]);
    mine.max = cuda::BlockMax(max, shared.floats) / row.divisor;
    mine.best = sampling::FindBest(row, params.first_id, piece,
                                   1.0f / row.divisor, columns.raw, &shared);
  }
  if (threadIdx.x == 0) {
    work.pieces[int64_t{row_idx} * work.num_pieces + piece] = mine;
    __threadfence();
    is_last = atomicAdd(&work.arrivals[row_idx], 1) == work.num_pieces - 1;
    __threadfence();
  }
  __syncthreads();
  if (is_last && threadIdx.x < cuda::kWarp) {
    Combine(params, work, choice, row_idx);
  }
}

__global__ void __launch_bounds__(kThreads)
    MergeChoicesKernel(const __grid_constant__ MergeChoicesParams params) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int32_t row_idx = blockIdx.x * kThreads + threadIdx.x;
  if (row_idx >= params.num_rows) return;
  const int32_t slot = params.rows[row_idx].slot;
  if (slot < 0) return;
  const int32_t token =
      MergedToken(params.choices + row_idx, params.num_shards, params.num_rows);
  params.tokens[row_idx] = token;
  params.by_slot[slot] = token;
}

template <typename RowT>
cudaError_t Launch(const Choice<RowT>& choice, int32_t num_rows,
                   void* workspace, int32_t max_rows, cudaStream_t stream) {
  if (num_rows <= 0) return cudaSuccess;
  char* base = static_cast<char*>(workspace);
  const Workspace work = {
      reinterpret_cast<int32_t*>(base),
      reinterpret_cast<ChoicePiece*>(base + ArrivalBytes(max_rows)),
      NumPieces(choice.num_vocab)};
  const dim3 grid(work.num_pieces, num_rows);
  return LaunchOverlapped(ChooseTokensKernel<RowT>, grid, dim3(kThreads), 0,
                          stream, choice, work);
}

}  // namespace

int64_t ChooseTokensWorkspaceBytes(int32_t num_rows, int32_t num_vocab) {
  return ArrivalBytes(num_rows) + int64_t{num_rows} * NumPieces(num_vocab) *
                                      int64_t{sizeof(ChoicePiece)};
}

cudaError_t LaunchChooseTokensCuda(const ChooseTokensParams& params,
                                   void* workspace, int32_t max_rows,
                                   cudaStream_t stream) {
  Choice<ChoiceRow> choice = {};
  choice.logits = params.logits;
  choice.rows = params.rows;
  choice.tokens = params.tokens;
  choice.by_slot = params.by_slot;
  choice.choices = params.choices;
  choice.first_id = params.first_id;
  choice.num_vocab = params.num_vocab;
  return Launch(choice, params.num_rows, workspace, max_rows, stream);
}

cudaError_t LaunchChooseUnfilteredCuda(const ShapedChoiceParams& params,
                                       void* workspace, int32_t max_rows,
                                       cudaStream_t stream) {
  Choice<ShapedRow> choice = {};
  choice.logits = params.logits;
  choice.rows = params.rows;
  choice.allowed = params.allowed;
  choice.tokens = params.tokens;
  choice.by_slot = params.by_slot;
  choice.num_vocab = params.num_vocab;
  return Launch(choice, params.num_unfiltered, workspace, max_rows, stream);
}

cudaError_t LaunchMergeChoicesCuda(const MergeChoicesParams& params,
                                   cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  return LaunchOverlapped(MergeChoicesKernel,
                          dim3((params.num_rows + kThreads - 1) / kThreads),
                          dim3(kThreads), 0, stream, params);
}

}  // namespace quire
