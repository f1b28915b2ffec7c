// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/allowed.cuh"
#include "kernels/cuda/best_token.cuh"
#include "kernels/cuda/choose_tokens.h"
#include "kernels/cuda/gumbel.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using sampling::Best;
using sampling::MaxOrNan;
using sampling::SearchShared;

constexpr float kGreedyTemperature = 1e-5f;  // kernels/sample.h

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / cuda::kWarp;
// As many run at once on a multiprocessor: 80 registers a thread.
constexpr int kBlocksPerSm = 3;
// Groups of four tokens that share random words, that a thread looks at at
// once: of many rows, and of few, which are to go round.
constexpr int kManyGroups = 4;
constexpr int kFewGroups = 1;

// What a block's share of a row says of it.
struct ChoicePart {
  Best best;
  float max;  // raw; NaN or infinity: the row must not be chosen from
  int32_t unused;
};

struct Workspace {
  int32_t* arrivals;  // [num_rows] parts that are done; 0 between launches
  ChoicePart* parts;  // [num_rows, max_parts]
  int32_t max_parts;
};

// Rows are cut into pieces of kThreads * kGroups groups, and all pieces, row
// after row, into as many runs as there are blocks.
struct Runs {
  int32_t row_pieces;  // of a row
  int32_t pieces;      // of a run
  int32_t longer;      // first runs that have one more

  __device__ int32_t Begin(int32_t block) const {
    return block * pieces + min(block, longer);
  }
  __device__ int32_t BlockOf(int32_t piece) const {
    const int32_t in_longer = longer * (pieces + 1);
    return piece < in_longer ? piece / (pieces + 1)
                             : longer + (piece - in_longer) / pieces;
  }
};

int32_t NumPieces(int32_t num_vocab, int32_t num_groups) {
  // A shard's first group may begin before the shard.
  const int32_t groups = (num_vocab + 3 + 3) / 4;
  return (groups + kThreads * num_groups - 1) / (kThreads * num_groups);
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
  int32_t first_id;      // 0 of ShapedRows
  int32_t num_vocab;
};

__device__ __forceinline__ int32_t LogitsRow(const ChoiceRow& /*row*/,
                                             int32_t row_idx) {
  return row_idx;
}
__device__ __forceinline__ int32_t LogitsRow(const ShapedRow& row,
                                             int32_t /*row_idx*/) {
  return row.row;
}

// A row's logits by groups. Group 0 holds the shard's first token, perhaps not
// as its first.
struct GroupedRow {
  const float* logits;
  int32_t num_vocab;
  int32_t before;  // tokens of group 0 that are another shard's
  // Groups [first_whole, end_whole) are all there and can be read at once.
  int32_t first_whole, end_whole;

  __device__ GroupedRow(const float* row, int32_t first_id, int32_t num_vocab)
      : logits(row), num_vocab(num_vocab), before(first_id % 4) {
    const bool is_aligned = reinterpret_cast<uintptr_t>(row - before) % 16 == 0;
    first_whole = before > 0 ? 1 : 0;
    end_whole = is_aligned ? (before + num_vocab) / 4 : 0;
  }

  // Whether all of these groups are such.
  __device__ __forceinline__ bool AreWhole(int32_t begin, int32_t end) const {
    return begin >= first_whole && end <= end_whole;
  }
  __device__ __forceinline__ void LoadWhole(int32_t group,
                                            float (&raw)[4]) const {
    cuda::Load(logits - before + group * 4, raw);
  }
  // -infinity where the shard has none.
  __device__ __forceinline__ void LoadAny(int32_t group,
                                          float (&raw)[4]) const {
    const int32_t column = group * 4 - before;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool is_there = column + j >= 0 && column + j < num_vocab;
      raw[j] = is_there ? logits[column + j] : -INFINITY;
    }
  }
};

__device__ __forceinline__ void Restrict(const ChoiceRow& /*row*/,
                                         const uint32_t* /*allowed*/,
                                         int32_t /*group*/,
                                         float (&/*raw*/)[4]) {}
__device__ __forceinline__ void Restrict(const ShapedRow& row,
                                         const uint32_t* allowed, int32_t group,
                                         float (&raw)[4]) {
  if (row.first_allowed < 0) return;
  cuda::ApplyAllowed(
      allowed + row.first_allowed, row.num_allowed_words,
      [&](int) { return group * 4; }, raw);
}

// Shows a search the groups of pieces [begin, end), a thread kGroups of each
// piece, and yields the thread's largest logit.
template <int kGroups, typename RowT, typename Search>
__device__ __forceinline__ float Scan(const GroupedRow& row, const RowT& choice,
                                      const uint32_t* allowed,
                                      int32_t first_group, int32_t begin,
                                      int32_t end, Search* search) {
  constexpr int kPieceGroups = kGroups * kThreads;
  sampling::TokenFours<kGroups> fours;
  fours.step = kThreads;
  float max = -INFINITY;
#pragma unroll 1
  for (int32_t piece = begin; piece < end; ++piece) {
    const int32_t group = piece * kPieceGroups + static_cast<int>(threadIdx.x);
    const bool are_whole =
        row.AreWhole(piece * kPieceGroups, (piece + 1) * kPieceGroups);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      if (are_whole) {
        row.LoadWhole(group + i * kThreads, fours.raw[i]);
      } else {
        row.LoadAny(group + i * kThreads, fours.raw[i]);
      }
    }
    fours.group = first_group + group;
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float(&raw)[4] = fours.raw[i];
      Restrict(choice, allowed, group + i * kThreads, raw);
      fours.largest[i] =
          MaxOrNan(MaxOrNan(raw[0], raw[1]), MaxOrNan(raw[2], raw[3]));
      max = MaxOrNan(max, fours.largest[i]);
    }
    piece == begin ? search->Begin(fours) : search->Consider(fours);
  }
  return max;
}

// The block's share of a row: pieces [begin, end). Every thread calls it; the
// first warp gets what all of them found.
template <int kGroups, typename RowT>
__device__ __forceinline__ ChoicePart Search(const Choice<RowT>& params,
                                             const RowT& choice,
                                             int32_t row_idx, int32_t begin,
                                             int32_t end,
                                             SearchShared<kWarps>* shared) {
  const GroupedRow row(
      params.logits + int64_t{LogitsRow(choice, row_idx)} * params.num_vocab,
      params.first_id, params.num_vocab);
  const int32_t first_group = params.first_id / 4;
  ChoicePart part = {};
  if (choice.temperature < kGreedyTemperature) {
    sampling::GreedySearch search;
    part.max = Scan<kGroups>(row, choice, params.allowed, first_group, begin,
                             end, &search);
    part.best = search.best();
  } else {
    sampling::NoisySearch search(choice.seed, choice.position,
                                 choice.temperature, &shared->reached);
    part.max = Scan<kGroups>(row, choice, params.allowed, first_group, begin,
                             end, &search);
    part.best = search.best();
  }
  sampling::ReduceSearch(shared, &part.best, &part.max);
  return part;
}

// What the parts of a whole row come to, written by one thread.
template <typename RowT>
__device__ void Write(const Choice<RowT>& params, const RowT& row,
                      int32_t row_idx, const ChoicePart& whole) {
  const bool is_bad = isnan(whole.max) || whole.max == INFINITY;
  const float divisor =
      row.temperature < kGreedyTemperature ? 1.0f : row.temperature;
  if (params.choices != nullptr) {
    params.choices[row_idx] = is_bad
                                  ? ShardChoice{-INFINITY, -1, -INFINITY, 1}
                                  : ShardChoice{whole.best.value, whole.best.id,
                                                whole.max / divisor, 0};
    return;
  }
  int32_t token = whole.best.id < 0 ? int32_t{kNoToken} : whole.best.id;
  if (whole.max / divisor == INFINITY) token = kLogitsOverflow;
  if (is_bad) token = kLogitsNotFinite;
  params.tokens[LogitsRow(row, row_idx)] = token;
  params.by_slot[row.slot] = token;
}

// All parts of a row, by a warp.
__device__ __forceinline__ ChoicePart Combine(const ChoicePart* parts,
                                              int32_t num_parts) {
  static_assert(sizeof(ChoicePart) == sizeof(int4));
  ChoicePart whole = {{-INFINITY, -1}, -INFINITY, 0};
  for (int i = threadIdx.x; i < num_parts; i += cuda::kWarp) {
    // Other blocks wrote them: not from this one's first-level cache.
    const int4 words = __ldcg(reinterpret_cast<const int4*>(parts + i));
    const Best part = {__int_as_float(words.x), words.y};
    if (sampling::IsBetter(part, whole.best)) whole.best = part;
    whole.max = MaxOrNan(whole.max, __int_as_float(words.z));
  }
  whole.best = sampling::WarpBest(whole.best);
  whole.max = sampling::WarpMaxOrNan(whole.max);
  return whole;
}

// The first warp of a block leaves its part; that of the row's last block to
// arrive writes what all come to. Which block that is varies, the token does
// not.
template <typename RowT>
__device__ __forceinline__ void Leave(const Choice<RowT>& params,
                                      const Workspace& work, const Runs& runs,
                                      const RowT& row, int32_t row_idx,
                                      const ChoicePart& part) {
  const int32_t first_piece = row_idx * runs.row_pieces;
  const int32_t first = runs.BlockOf(first_piece);
  const int32_t last = runs.BlockOf(first_piece + runs.row_pieces - 1);
  if (first == last) {
    if (threadIdx.x == 0) Write(params, row, row_idx, part);
    return;
  }
  ChoicePart* const parts = work.parts + int64_t{row_idx} * work.max_parts;
  int is_last = 0;
  if (threadIdx.x == 0) {
    parts[blockIdx.x - first] = part;
    __threadfence();
    is_last = atomicAdd(&work.arrivals[row_idx], 1) == last - first;
    __threadfence();
  }
  if (!__shfl_sync(0xffffffffu, is_last, 0)) return;
  __syncwarp();  // others read what the first lane knows to be there
  const ChoicePart whole = Combine(parts, last - first + 1);
  if (threadIdx.x != 0) return;
  work.arrivals[row_idx] = 0;
  Write(params, row, row_idx, whole);
}

template <int kGroups, typename RowT>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    ChooseTokensKernel(const __grid_constant__ Choice<RowT> params,
                       const __grid_constant__ Workspace work,
                       const __grid_constant__ Runs runs) {
  __shared__ SearchShared<kWarps> shared[2];  // rows take turns
  LetNextKernelBegin();
  if (threadIdx.x == 0) shared[0].reached = 0;
  __syncthreads();
  WaitForEarlierKernels();
  const int32_t end = runs.Begin(blockIdx.x + 1);
  int turn = 0;
#pragma unroll 1
  for (int32_t piece = runs.Begin(blockIdx.x); piece < end;) {
    const int32_t row_idx = piece / runs.row_pieces;
    const int32_t row_begin = row_idx * runs.row_pieces;
    const int32_t row_end = min(row_begin + runs.row_pieces, end);
    const RowT row = params.rows[row_idx];
    if (row.slot >= 0) {
      // Nobody looks at it before the barrier in Search().
      if (threadIdx.x == 0) shared[turn ^ 1].reached = 0;
      const ChoicePart part =
          Search<kGroups>(params, row, row_idx, piece - row_begin,
                          row_end - row_begin, &shared[turn]);
      if (threadIdx.x < cuda::kWarp) {
        Leave(params, work, runs, row, row_idx, part);
      }
      turn ^= 1;
    }
    piece = row_end;
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
  int device = 0, num_sms = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error =
      cudaDeviceGetAttribute(&num_sms, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  char* base = static_cast<char*>(workspace);
  const Workspace work = {
      reinterpret_cast<int32_t*>(base),
      reinterpret_cast<ChoicePart*>(base + ArrivalBytes(max_rows)),
      NumPieces(choice.num_vocab, kFewGroups)};
  const int32_t most_blocks = num_sms * kBlocksPerSm;
  const auto launch = [&]<int kGroups>(std::integral_constant<int, kGroups>) {
    Runs runs;
    runs.row_pieces = NumPieces(choice.num_vocab, kGroups);
    const int32_t pieces = num_rows * runs.row_pieces;
    const int32_t blocks = pieces < most_blocks ? pieces : most_blocks;
    runs.pieces = pieces / blocks;
    runs.longer = pieces % blocks;
    return LaunchOverlapped(ChooseTokensKernel<kGroups, RowT>, dim3(blocks),
                            dim3(kThreads), 0, stream, choice, work, runs);
  };
  // Where each block gets several of the larger pieces.
  const bool are_many =
      num_rows * NumPieces(choice.num_vocab, kManyGroups) >= 2 * most_blocks;
  return are_many ? launch(std::integral_constant<int, kManyGroups>())
                  : launch(std::integral_constant<int, kFewGroups>());
}

}  // namespace

int64_t ChooseTokensWorkspaceBytes(int32_t num_rows, int32_t num_vocab) {
  return ArrivalBytes(num_rows) + int64_t{num_rows} *
                                      NumPieces(num_vocab, kFewGroups) *
                                      int64_t{sizeof(ChoicePart)};
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
