// SPDX-License-Identifier: Apache-2.0
//
// States of the online softmax beyond one split: folding, storing, and the
// result.
#ifndef KERNELS_CUDA_ATTENTION_STATE_CUH_
#define KERNELS_CUDA_ATTENTION_STATE_CUH_

#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {

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

// Folds `later` into `state`.
template <int kHeadDim, int kRowTiles>
__device__ __forceinline__ void FoldInto(
    const RowState<kHeadDim, kRowTiles>& later, float scale,
    RowState<kHeadDim, kRowTiles>* state) {
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      if (later.m[tile][row] == NegativeInfinity()) continue;
      const Fold fold(state->m[tile][row], later.m[tile][row], scale);
#pragma unroll
      for (int i = row; i < 4; i += 2) {
#pragma unroll
        for (int j = 0; j < kHeadDim / 16; ++j) {
          state->o[j][tile][i] =
              fold(state->o[j][tile][i], later.o[j][tile][i]);
        }
        state->l[tile][i] = fold(state->l[tile][i], later.l[tile][i]);
      }
      state->m[tile][row] = fold.m;
    }
  }
}

// States in memory: [rows][kHeadDim + 4] floats, with m and l after the row.
template <int kHeadDim, int kRowTiles>
struct StoredState {
  using State = RowState<kHeadDim, kRowTiles>;
  static constexpr int kStride = kHeadDim + 4;
  float* base;

  __device__ __forceinline__ float* Row(int row) const {
    return base + int64_t{row} * kStride;
  }

  // Rows from num_rows on stay untouched.
  __device__ __forceinline__ void Store(const State& state, int lane,
                                        int num_rows) const {
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = tile * kTileRows + (lane & 3) * 2 + i;
        if (row >= num_rows) continue;
        float* to = Row(row) + lane / 4;
#pragma unroll
        for (int j = 0; j < kHeadDim / 16; ++j) {
          __stcg(to + j * 16, state.o[j][tile][i]);
          __stcg(to + j * 16 + 8, state.o[j][tile][i + 2]);
        }
        if (lane < 4) {
          __stcg(reinterpret_cast<float2*>(Row(row) + kHeadDim),
                 make_float2(state.m[tile][i], state.l[tile][i]));
        }
      }
    }
  }

  // Folds `state` into the stored one, or begins it with `state`; leaves the
  // result in `state`, too. Every lane reads only what it wrote itself, apart
  // from m and l.
  __device__ __forceinline__ void Add(State* state, float scale, bool is_first,
                                      int lane, int num_rows) const {
    if (is_first) {
      Store(*state, lane, num_rows);
      __syncwarp();
      return;
    }
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = tile * kTileRows + (lane & 3) * 2 + i;
        const bool is_used = row < num_rows;
        float2 ml = make_float2(0.0f, 0.0f);
        if (is_used) {
          ml = __ldcg(reinterpret_cast<const float2*>(Row(row) + kHeadDim));
        }
        __syncwarp();  // all have read them
        if (!is_used) continue;
        const Fold fold(ml.x, state->m[tile][i], scale);
        float* at = Row(row) + lane / 4;
#pragma unroll
        for (int j = 0; j < kHeadDim / 16; ++j) {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float* element = at + j * 16 + half * 8;
            float& o = state->o[j][tile][i + 2 * half];
            o = fold(__ldcg(element), o);
            __stcg(element, o);
          }
        }
        const float l = fold(ml.y, state->l[tile][i]);
        state->l[tile][i] = state->l[tile][i + 2] = l;
        state->m[tile][i] = fold.m;
        if (lane < 4) {
          __stcg(reinterpret_cast<float2*>(Row(row) + kHeadDim),
                 make_float2(fold.m, l));
        }
      }
    }
    __syncwarp();
  }
};

// Writes the lane's part of the results of its rows.
template <int kHeadDim, int kRowTiles>
__device__ __forceinline__ void WriteRows(
    const AttentionParams& p, const RowState<kHeadDim, kRowTiles>& state,
    int query_start, int row_begin, int num_rows, int kv_head, int lane) {
  const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    const float normalizers[2] = {Normalizer(state.l[tile][0]),
                                  Normalizer(state.l[tile][1])};
    const int row = tile * kTileRows + lane / 4;
    const int in_seq = row_begin + row;
    const int64_t token = query_start + in_seq / group;
    const int head = kv_head * group + in_seq % group;
    __nv_bfloat16* to = static_cast<__nv_bfloat16*>(p.out) +
                        (token * p.num_q_heads + head) * kHeadDim +
                        (lane & 3) * 2;
#pragma unroll
    for (int j = 0; j < kHeadDim / 16; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // Columns become rows.
        const uint32_t pair = Transpose(PackBf16(
            Normalize(state.o[j][tile][2 * half], normalizers[0]),
            Normalize(state.o[j][tile][2 * half + 1], normalizers[1])));
        if (row < num_rows) {
          *reinterpret_cast<uint32_t*>(to + j * 16 + half * 8) = pair;
        }
      }
    }
  }
}

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_STATE_CUH_
