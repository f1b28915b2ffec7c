// SPDX-License-Identifier: Apache-2.0
//
// What the kernels that sample share: how a block reads its piece of a row's
// logits, the noise, and the best of a piece.
#ifndef KERNELS_CUDA_SAMPLE_PIECE_CUH_
#define KERNELS_CUDA_SAMPLE_PIECE_CUH_

#include <cstdint>

#include "kernels/cuda/sample.h"
#include "kernels/cuda/vector.cuh"
#include "kernels/philox.h"

namespace quire::sampling {

// A block reads kPiece columns, a thread kPerThread of them, four next to each
// other at a time.
constexpr int kThreads = 256;
constexpr int kQuads = 4;
constexpr int kPerThread = 4 * kQuads;
constexpr int kPiece = kThreads * kPerThread;

// The error of FastGumbel and of adding it, generously.
constexpr float kGumbelMargin = 1e-3f;

struct Best {
  float value;
  int32_t id;
};

// The uniform in (0, 1) of a random word: see kernels/cpu/sample.cc.
__device__ __forceinline__ float UniformOf(uint32_t word) {
  const float u = fmaf(static_cast<float>(static_cast<int32_t>(word >> 1)),
                       0x1p-31f, 0x1p-32f);
  return fminf(u, 1.0f - 0x1p-24f);
}

__device__ __forceinline__ float Gumbel(float u) { return -logf(-log1pf(-u)); }

// Gumbel within 3e-4: two logarithms of the special function unit, and a series
// where 1 - u would lose u.
__device__ __forceinline__ float FastGumbel(float u) {
  const float series = u * fmaf(u, fmaf(u, 0.33333333f, 0.5f), 1.0f);
  const float exponential = u < 0x1p-6f ? series : -__logf(1.0f - u);
  return -__logf(exponential);
}

__device__ __forceinline__ bool IsBetter(const Best& a, const Best& b) {
  return a.value > b.value ||
         (a.value == b.value && a.id >= 0 && (b.id < 0 || a.id < b.id));
}

__device__ __forceinline__ Best BlockBest(Best best, Best* shared) {
#pragma unroll
  for (int offset = cuda::kWarp / 2; offset > 0; offset /= 2) {
    const Best other = {__shfl_xor_sync(0xffffffffu, best.value, offset),
                        __shfl_xor_sync(0xffffffffu, best.id, offset)};
    if (IsBetter(other, best)) best = other;
  }
  __syncthreads();
  if (threadIdx.x % cuda::kWarp == 0) shared[threadIdx.x / cuda::kWarp] = best;
  __syncthreads();
  for (int warp = 0; warp < kThreads / cuda::kWarp; ++warp) {
    if (IsBetter(shared[warp], best)) best = shared[warp];
  }
  return best;
}

struct PieceShared {
  float floats[cuda::kWarp];
  Best best[cuda::kWarp];
};

// kPerThread columns of a thread: their raw logits, -infinity beyond the end.
struct Columns {
  float raw[kPerThread];
  uint32_t not_listed;  // bit i: column i is there and in no list
  bool is_bad;          // a NaN or +infinity among them
};

__device__ __forceinline__ int ColumnOf(int piece, int quad) {
  return piece * kPiece + (quad * kThreads + threadIdx.x) * 4;
}

__device__ __forceinline__ Columns LoadColumns(const float* logits, int piece,
                                               int num_vocab,
                                               const uint32_t* listed) {
  Columns c;
  c.not_listed = 0;
  c.is_bad = false;
  const bool aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0;
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    const int column = ColumnOf(piece, quad);
    float v[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    if (aligned && column + 4 <= num_vocab) {
      cuda::Load(logits + column, v);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (column + j < num_vocab) v[j] = logits[column + j];
      }
    }
    uint32_t here = column >= num_vocab ? 0u
                    : column + 4 <= num_vocab
                        ? 0xfu
                        : (1u << (num_vocab - column)) - 1;
    if (listed != nullptr && here != 0) {
      here &= ~(listed[column / 32] >> (column % 32));
    }
    c.not_listed |= here << (quad * 4);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      c.raw[quad * 4 + j] = v[j];
      c.is_bad |= isnan(v[j]) || v[j] == INFINITY;
    }
  }
  return c;
}

// The uniforms of a thread's columns. A group of four ids shares a Philox
// block, which is a thread's four columns where the shard begins with a group.
__device__ __forceinline__ void LoadUniforms(const CudaSampleRow& row,
                                             int32_t first_id, int piece,
                                             float (&u)[kPerThread]) {
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    const uint32_t id = first_id + ColumnOf(piece, quad);
    if (first_id % 4 == 0) {
      const PhiloxWords words =
          Philox4x32({{id / 4, static_cast<uint32_t>(row.position), 0, 0}},
                     static_cast<uint32_t>(row.seed),
                     static_cast<uint32_t>(row.seed >> 32));
#pragma unroll
      for (int j = 0; j < 4; ++j) u[quad * 4 + j] = UniformOf(words.word[j]);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        u[quad * 4 + j] = UniformOf(TokenRandomWord(
            row.seed, row.position, static_cast<int32_t>(id + j)));
      }
    }
  }
}

// Largest logit + noise of the block's columns: approximately for all, then
// exactly for the few that come near. `raw` is -infinity for listed columns.
__device__ __forceinline__ Best FindBest(const CudaSampleRow& row,
                                         int32_t first_id, int piece,
                                         float inverse,
                                         const float (&raw)[kPerThread],
                                         PieceShared* shared) {
  Best best = {-INFINITY, -1};
  const auto consider = [&](int i, float value) {
    const Best mine = {value, first_id + ColumnOf(piece, i / 4) + i % 4};
    if (value > -INFINITY && IsBetter(mine, best)) best = mine;
  };
  if (row.is_greedy) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) consider(i, raw[i]);
    return BlockBest(best, shared->best);
  }
  float u[kPerThread], noisy[kPerThread];
  LoadUniforms(row, first_id, piece, u);
  float bar = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    noisy[i] = fmaf(raw[i], inverse, FastGumbel(u[i]));
    bar = fmaxf(bar, noisy[i]);
  }
  bar = cuda::BlockMax(bar, shared->floats);
  // What is lost in rounding values of this size comes on top.
  bar -= kGumbelMargin + 1e-6f * fabsf(bar);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    if (noisy[i] >= bar && raw[i] > -INFINITY) {
      consider(i, raw[i] / row.divisor + Gumbel(u[i]));
    }
  }
  return BlockBest(best, shared->best);
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_SAMPLE_PIECE_CUH_
