// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cuda/sample.h"
#include "kernels/cuda/sample_piece.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/philox.h"

namespace quire {
namespace {

using namespace sampling;  // NOLINT: its other half

// The second pass, one block a row.
constexpr int kTopThreads = 1024;
constexpr int kMaxGathered = 4096;
static_assert(kMaxGathered >= kMaxCudaCandidates);

// What a piece says of its columns; sums as in ShardSummary.
struct PieceSummary {
  float raw_max, raw_sum;
  float max, sum;
  Best best;
};

struct Workspace {
  uint32_t* listed;      // [num_rows, bitmap_words] columns in a row's lists
  PieceSummary* pieces;  // [num_rows, num_pieces + 1]; the last is the lists'
  uint32_t* maxima;      // [num_rows, (num_pieces + 1) * kThreads] keys
  int32_t num_pieces;
  int32_t bitmap_words;
};

__host__ __device__ int64_t Align(int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

Workspace Split(int32_t num_rows, int32_t num_vocab, char* base,
                int64_t* bytes) {
  Workspace w;
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

// Orders as floats do, -infinity first; 0 is below every float. -0 is 0.
__device__ __forceinline__ uint32_t KeyOf(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float OfKey(uint32_t key) {
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

constexpr uint32_t kNegInfKey = 0x007fffffu;

// The logit of a listed token after penalties, masks and temperature.
__device__ float Penalised(const CudaSampleParams& params,
                           const CudaSampleRow& row, const SeenToken& token,
                           float logit) {
  for (int32_t i = 0; i < row.num_masked; ++i) {
    if (params.masked[row.first_masked + i] == token.token_id) {
      return -INFINITY;
    }
  }
  logit = logit > 0 ? logit / row.repetition_penalty
                    : logit * row.repetition_penalty;
  logit = __fsub_rn(logit, __fmul_rn(row.frequency_penalty,
                                     static_cast<float>(token.output_count)));
  if (token.output_count > 0) logit -= row.presence_penalty;
  return logit / row.divisor;
}

// exp(value - max) by the special function unit: within 1e-6 of itself for
// shares that count.
__device__ __forceinline__ float SumShare(float value, float max) {
  return max == -INFINITY ? 0.0f : __expf(value - max);
}

// Marks the columns that a row's lists name. One block a row.
__global__ void __launch_bounds__(kThreads)
    MarkListedKernel(const __grid_constant__ CudaSampleParams params,
                     const __grid_constant__ Workspace work) {
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
                    const __grid_constant__ Workspace work) {
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
                  const __grid_constant__ Workspace work) {
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

// Descending, by a bitonic network over the next power of two.
__device__ void SortGathered(int count, TopShared* shared) {
  int size = 2;
  while (size < count) size *= 2;
  for (int i = count + threadIdx.x; i < size; i += kTopThreads) {
    shared->gathered[i] = 0;
  }
  for (int width = 2; width <= size; width *= 2) {
    for (int stride = width / 2; stride > 0; stride /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < size / 2; i += kTopThreads) {
        const int low = 2 * i - (i & (stride - 1));
        const int high = low + stride;
        const uint64_t a = shared->gathered[low];
        const uint64_t b = shared->gathered[high];
        if ((a < b) == ((low & width) == 0)) {
          shared->gathered[low] = b;
          shared->gathered[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kTopThreads)
    TopCandidatesKernel(const __grid_constant__ CudaSampleParams params,
                        const __grid_constant__ Workspace work) {
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
  SortGathered(count, &shared);
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

int64_t CudaSampleWorkspaceBytes(int32_t num_rows, int32_t num_vocab) {
  int64_t bytes = 0;
  Split(num_rows, num_vocab, nullptr, &bytes);
  return bytes;
}

cudaError_t LaunchSampleShardCuda(const CudaSampleParams& params,
                                  cudaStream_t stream) {
  if (params.num_rows <= 0) return cudaSuccess;
  int64_t bytes = 0;
  const Workspace work = Split(params.num_rows, params.num_vocab,
                               static_cast<char*>(params.workspace), &bytes);
  if (params.num_listed > 0) {
    MarkListedKernel<<<params.num_rows, kThreads, 0, stream>>>(params, work);
  }
  const dim3 grid(work.num_pieces + 1, params.num_rows);
  SummarizeKernel<<<grid, kThreads, 0, stream>>>(params, work);
  CombineKernel<<<params.num_rows, cuda::kWarp, 0, stream>>>(params, work);
  if (params.num_candidates > 0) {
    TopCandidatesKernel<<<params.num_rows, kTopThreads, 0, stream>>>(params,
                                                                     work);
  }
  return cudaGetLastError();
}

}  // namespace quire
