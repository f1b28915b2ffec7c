// SPDX-License-Identifier: Apache-2.0
//
// What the kernels that look at a piece of a row share: how a block reads its
// logits, and the best of them with their noise.
#ifndef KERNELS_CUDA_SAMPLE_PIECE_CUH_
#define KERNELS_CUDA_SAMPLE_PIECE_CUH_

#include <cstdint>

#include "kernels/cuda/gumbel.cuh"
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

// The random words of four tokens from `id` on, which share a Philox block
// where the shard begins with a group.
__device__ __forceinline__ PhiloxWords WordsOf(const CudaSampleRow& row,
                                               uint32_t id) {
  if (id % 4 == 0) {
    return Philox4x32({{id / 4, static_cast<uint32_t>(row.position), 0, 0}},
                      static_cast<uint32_t>(row.seed),
                      static_cast<uint32_t>(row.seed >> 32));
  }
  PhiloxWords words;
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    words.word[j] =
        TokenRandomWord(row.seed, row.position, static_cast<int32_t>(id + j));
  }
  return words;
}

// Largest logit + noise of the block's columns: a bar from one token of each
// thread's first four, then exactly for the few that come near it. `raw` is
// -infinity for listed columns.
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
  PhiloxWords words = WordsOf(row, first_id + ColumnOf(piece, 0));
  uint32_t least = words.word[0];
  float its_raw = raw[0];
#pragma unroll
  for (int j = 1; j < 4; ++j) {
    if (words.word[j] >= least) continue;
    least = words.word[j];
    its_raw = raw[j];
  }
  float bar = cuda::BlockMax(
      fmaf(its_raw, inverse, FastGumbel(UniformOf(least))), shared->floats);
  // What is lost in rounding values of this size comes on top.
  bar -= kGumbelMargin + 1e-6f * fabsf(bar);
#pragma unroll
  for (int quad = 0; quad < kQuads; ++quad) {
    if (quad > 0) words = WordsOf(row, first_id + ColumnOf(piece, quad));
    const float* const four = raw + quad * 4;
    const float max = fmaxf(fmaxf(four[0], four[1]), fmaxf(four[2], four[3]));
    if (!MayReach(words, max * inverse, bar)) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float u = UniformOf(words.word[j]);
      if (fmaf(four[j], inverse, FastGumbel(u)) >= bar) {
        consider(quad * 4 + j, four[j] / row.divisor + Gumbel(u));
      }
    }
  }
  return BlockBest(best, shared->best);
}

}  // namespace quire::sampling

#endif  // KERNELS_CUDA_SAMPLE_PIECE_CUH_
