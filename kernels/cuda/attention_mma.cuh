// SPDX-License-Identifier: Apache-2.0
//
// What the attention kernels of bfloat16 share: the tensor cores' fragments and
// the one order of arithmetic that makes them agree bit by bit (the header of
// attention_plan.h says which).
//
// Fragments are those of mma.m16n8k16: lane `l` of a warp holds, of the 16
// rows, number l / 4 ("low") and l / 4 + 8 ("high"), and of every 8 columns
// numbers 2 * (l % 4) and the next.
#ifndef KERNELS_CUDA_ATTENTION_MMA_CUH_
#define KERNELS_CUDA_ATTENTION_MMA_CUH_

#include <cstdint>

#include "cuda_bf16.h"
#include "kernels/cuda/attention_async.cuh"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {

// Positions that are copied to shared memory together.
constexpr int kChunk = 32;
constexpr float kLog2E = 1.4426950408889634f;
// Beyond a shared-memory row: an odd number of 16-byte units from row to row
// lets eight rows be read at once without bank conflicts.
constexpr int kRowPadding = 8;

__device__ __forceinline__ float NegativeInfinity() {
  return __int_as_float(0xff800000);
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void LoadMatrices(uint32_t address,
                                             uint32_t (&r)[4]) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address)
      : "memory");
}

__device__ __forceinline__ void LoadMatricesTransposed(uint32_t address,
                                                       uint32_t (&r)[4]) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(address)
      : "memory");
}

__device__ __forceinline__ void Multiply(float (&c)[4], const uint32_t (&a)[4],
                                         uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// The online softmax of a warp's 16 rows. [0]: low rows, [1]: high rows.
template <int kHeadDim>
struct RowState {
  float o[kHeadDim / 8][4];  // columns 8 j + 2 (lane % 4), +1: low, low, high..
  float m[2];                // largest score so far, not scaled
  float l[2];                // this lane's part of the sum of weights

  __device__ __forceinline__ void Reset() {
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) o[j][i] = 0.0f;
    }
    m[0] = m[1] = NegativeInfinity();
    l[0] = l[1] = 0.0f;
  }

  // Completes `l` at the end of a split.
  __device__ __forceinline__ void SumLanes() {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      l[i] = __fadd_rn(l[i], __shfl_xor_sync(~0u, l[i], 1));
      l[i] = __fadd_rn(l[i], __shfl_xor_sync(~0u, l[i], 2));
    }
  }
};

// The positions that a lane's two rows attend to.
struct RowRanges {
  int32_t begin[2];
  int32_t end[2];
};

__device__ __forceinline__ void SetRange(const AttentionParams& p, int row,
                                         int group, int position, int i,
                                         RowRanges* ranges) {
  const int end = position + row / group + 1;
  ranges->end[i] = end;
  ranges->begin[i] = p.sliding_window > 0 ? end - p.sliding_window : 0;
}

// Scores of 16 rows against a chunk of keys, [kChunk][kHeadDim + padding] at
// `keys`, added to s.
template <int kHeadDim>
__device__ __forceinline__ void ScoreChunk(
    const uint32_t (&q)[kHeadDim / 16][4], uint32_t keys, int lane,
    float (*s)[4]) {
  constexpr int kStride = (kHeadDim + kRowPadding) * 2;
  const uint32_t address = keys + ((lane & 7) + ((lane >> 4) << 3)) * kStride +
                           ((lane >> 3) & 1) * 16;
#pragma unroll
  for (int k = 0; k < kHeadDim / 16; ++k) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      uint32_t b[4];
      LoadMatrices(address + pair * 16 * kStride + k * 32, b);
      Multiply(s[2 * pair], q[k], b[0], b[1]);
      Multiply(s[2 * pair + 1], q[k], b[2], b[3]);
    }
  }
}

// o += weights . values, for a chunk of values laid out as keys are.
template <int kHeadDim>
__device__ __forceinline__ void AccumulateChunk(const uint32_t (*weights)[4],
                                                uint32_t values, int lane,
                                                float (&o)[kHeadDim / 8][4]) {
  constexpr int kStride = (kHeadDim + kRowPadding) * 2;
  const uint32_t address = values +
                           ((lane & 7) + ((lane >> 3) & 1) * 8) * kStride +
                           (lane >> 4) * 16;
#pragma unroll
  for (int k = 0; k < 2; ++k) {
#pragma unroll
    for (int j = 0; j < kHeadDim / 16; ++j) {
      uint32_t b[4];
      LoadMatricesTransposed(address + k * 16 * kStride + j * 32, b);
      Multiply(o[2 * j], weights[k], b[0], b[1]);
      Multiply(o[2 * j + 1], weights[k], b[2], b[3]);
    }
  }
}

// Takes scores outside the rows' ranges away. `at`: position of the tile.
__device__ __forceinline__ void MaskTile(int at, int lane,
                                         const RowRanges& ranges,
                                         float (&s)[8][4]) {
#pragma unroll
  for (int j = 0; j < 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = at + j * 8 + (lane & 3) * 2 + (i & 1);
      if (position < ranges.begin[i >> 1] || position >= ranges.end[i >> 1]) {
        s[j][i] = NegativeInfinity();
      }
    }
  }
}

// One tile's update of m, l and o; leaves the weights, ready to multiply.
// `scale`: of scores, times log2(e). Without kHigh the high rows are unused.
template <int kHeadDim, bool kHigh>
__device__ __forceinline__ void SoftmaxTile(float (&s)[8][4], float scale,
                                            RowState<kHeadDim>* state,
                                            uint32_t (&weights)[4][4]) {
#pragma unroll
  for (int row = 0; row < (kHigh ? 2 : 1); ++row) {
    float top = fmaxf(s[0][2 * row], s[0][2 * row + 1]);
#pragma unroll
    for (int j = 1; j < 8; ++j) {
      top = fmaxf(top, fmaxf(s[j][2 * row], s[j][2 * row + 1]));
    }
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    const float old = state->m[row];
    const float now = fmaxf(old, top);
    const float used = now == NegativeInfinity() ? 0.0f : now;
    const float offset = -__fmul_rn(used, scale);
    // Exactly one where the maximum stays.
    const float shrink = Exp2(__fmul_rn(__fsub_rn(old, used), scale));
    state->m[row] = now;
    float sum = __fmul_rn(state->l[row], shrink);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float a = Exp2(__fmaf_rn(s[j][2 * row], scale, offset));
      const float b = Exp2(__fmaf_rn(s[j][2 * row + 1], scale, offset));
      sum = __fadd_rn(sum, __fadd_rn(a, b));
      weights[j / 2][2 * (j % 2) + row] = PackBf16(a, b);
    }
    state->l[row] = sum;
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
      state->o[j][2 * row] = __fmul_rn(state->o[j][2 * row], shrink);
      state->o[j][2 * row + 1] = __fmul_rn(state->o[j][2 * row + 1], shrink);
    }
  }
  if (!kHigh) {
#pragma unroll
    for (int k = 0; k < 4; ++k) weights[k][1] = weights[k][3] = 0;
  }
}

// Folding the state (o, m, l) of later positions into an earlier one:
//   next = max(m, later m),  o = later o * b + o * a,  and l alike.
// A later state with no position at all changes nothing.
struct Fold {
  float m, a, b;

  __device__ __forceinline__ Fold(float earlier_m, float later_m, float scale) {
    m = fmaxf(earlier_m, later_m);
    const float used = m == NegativeInfinity() ? 0.0f : m;
    a = Exp2(__fmul_rn(__fsub_rn(earlier_m, used), scale));
    b = Exp2(__fmul_rn(__fsub_rn(later_m, used), scale));
  }
  __device__ __forceinline__ float operator()(float earlier,
                                              float later) const {
    return __fmaf_rn(later, b, __fmul_rn(earlier, a));
  }
};

// What a row's sums are multiplied by in the end; 0 for a row without keys.
__device__ __forceinline__ float Normalizer(float l) {
  return l > 0.0f ? __fdiv_rn(1.0f, l) : 0.0f;
}

__device__ __forceinline__ float Normalize(float o, float normalizer) {
  return __fmaf_rn(o, normalizer, 0.0f);  // never a negative zero
}

// States in memory: [rows][kHeadDim + 4] floats, with m and l after the row.
template <int kHeadDim>
struct StoredState {
  static constexpr int kStride = kHeadDim + 4;
  float* base;

  __device__ __forceinline__ float* Row(int row) const {
    return base + int64_t{row} * kStride;
  }

  // `state.l` is complete. Rows from num_rows on stay untouched.
  __device__ __forceinline__ void Store(const RowState<kHeadDim>& state,
                                        int lane, int num_rows) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = lane / 4 + 8 * i;
      if (row >= num_rows) continue;
      float* to = Row(row) + (lane & 3) * 2;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        __stcg(reinterpret_cast<float2*>(to + j * 8),
               make_float2(state.o[j][2 * i], state.o[j][2 * i + 1]));
      }
      if ((lane & 3) == 0) {
        __stcg(reinterpret_cast<float2*>(Row(row) + kHeadDim),
               make_float2(state.m[i], state.l[i]));
      }
    }
  }

  __device__ __forceinline__ void Load(int lane, int num_rows,
                                       RowState<kHeadDim>* state) const {
    state->Reset();
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = lane / 4 + 8 * i;
      if (row >= num_rows) continue;
      const float* from = Row(row) + (lane & 3) * 2;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        const float2 pair =
            __ldcg(reinterpret_cast<const float2*>(from + j * 8));
        state->o[j][2 * i] = pair.x;
        state->o[j][2 * i + 1] = pair.y;
      }
      const float2 ml =
          __ldcg(reinterpret_cast<const float2*>(Row(row) + kHeadDim));
      state->m[i] = ml.x;
      state->l[i] = ml.y;
    }
  }

  // Folds `state` into the stored one, or begins it with `state`. Every lane
  // reads only what it wrote itself, apart from m and l.
  __device__ __forceinline__ void Add(const RowState<kHeadDim>& state,
                                      float scale, bool is_first, int lane,
                                      int num_rows) const {
    if (is_first) {
      Store(state, lane, num_rows);
      __syncwarp();
      return;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = lane / 4 + 8 * i;
      const bool is_used = row < num_rows && state.m[i] != NegativeInfinity();
      float2 ml = make_float2(0.0f, 0.0f);
      if (is_used) {
        ml = __ldcg(reinterpret_cast<const float2*>(Row(row) + kHeadDim));
      }
      __syncwarp();
      if (!is_used) continue;
      const Fold fold(ml.x, state.m[i], scale);
      float* at = Row(row) + (lane & 3) * 2;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; ++j) {
        float2 pair = __ldcg(reinterpret_cast<const float2*>(at + j * 8));
        pair.x = fold(pair.x, state.o[j][2 * i]);
        pair.y = fold(pair.y, state.o[j][2 * i + 1]);
        __stcg(reinterpret_cast<float2*>(at + j * 8), pair);
      }
      if ((lane & 3) == 0) {
        __stcg(reinterpret_cast<float2*>(Row(row) + kHeadDim),
               make_float2(fold.m, fold(ml.y, state.l[i])));
      }
    }
    __syncwarp();
  }
};

// Writes the lane's part of the results of its two rows.
template <int kHeadDim>
__device__ __forceinline__ void WriteRows(const AttentionParams& p,
                                          const RowState<kHeadDim>& state,
                                          int query_start, int row_begin,
                                          int num_rows, int kv_head, int lane) {
  const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    if (row >= num_rows) continue;
    const int token = query_start + (row_begin + row) / group;
    const int head = kv_head * group + (row_begin + row) % group;
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(p.out) +
                        (int64_t{token} * p.num_q_heads + head) * kHeadDim +
                        (lane & 3) * 2;
    const float normalizer = Normalizer(state.l[i]);
#pragma unroll
    for (int j = 0; j < kHeadDim / 8; ++j) {
      *reinterpret_cast<uint32_t*>(to + j * 8) =
          PackBf16(Normalize(state.o[j][2 * i], normalizer),
                   Normalize(state.o[j][2 * i + 1], normalizer));
    }
  }
}

// Rows of the cache, each kHeadDim elements: where positions' keys lie.
struct CacheRows {
  const int32_t* table;
  uint32_t rows_per_block;
  uint32_t rows_per_token;  // 1 where a head's tokens lie together
  uint32_t first_row;       // of this layer and head in a block
  uint32_t to_values;       // rows from a key to its value
  uint32_t factor;
  int32_t shift;
  int32_t block_size;

  __device__ __forceinline__ CacheRows(const AttentionParams& p,
                                       const AttentionPlan& plan, int seq_slot,
                                       int kv_head) {
    const KvLayout& layout = p.cache.layout;
    table = p.block_tables + int64_t{seq_slot} * p.max_blocks_per_seq;
    block_size = layout.block_size;
    factor = plan.block_factor;
    shift = plan.block_shift;
    const bool by_heads = layout.order == KvOrder::kHeads;
    const uint32_t rows_per_head = by_heads ? block_size : 1;
    to_values = layout.num_kv_heads * rows_per_head;
    rows_per_block = plan.block_rows;
    rows_per_token = by_heads ? 1 : layout.num_layers * 2 * to_values;
    first_row =
        p.cache.layer_idx * 2 * to_values + uint32_t(kv_head) * rows_per_head;
  }

  __device__ __forceinline__ uint32_t At(int position) const {
    const int quotient = __umulhi(position, factor) >> (shift & 31);
    const int block = block_size == 1 ? position : quotient;
    return static_cast<uint32_t>(__ldg(table + block)) * rows_per_block +
           first_row + (position - block * block_size) * rows_per_token;
  }
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_MMA_CUH_
