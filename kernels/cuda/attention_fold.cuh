// SPDX-License-Identifier: Apache-2.0
//
// Folding the stored states of a decode's splits, by the warp that completes
// the last of them.
#ifndef KERNELS_CUDA_ATTENTION_FOLD_CUH_
#define KERNELS_CUDA_ATTENTION_FOLD_CUH_

#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"

namespace quire::attention {

// States to fold: `count` of them, `apart` floats from one to the next.
struct StateRun {
  const float* first;
  int64_t apart;
  int count;
};

// Four elements of a row, as they are folded.
struct FoldedPiece {
  float4 o = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float m = NegativeInfinity();
  float l = 0.0f;

  __device__ __forceinline__ void Add(float4 later, float2 ml, float scale) {
    if (ml.x == NegativeInfinity()) return;
    const Fold fold(m, ml.x, scale);
    o.x = fold(o.x, later.x);
    o.y = fold(o.y, later.y);
    o.z = fold(o.z, later.z);
    o.w = fold(o.w, later.w);
    l = fold(l, ml.y);
    m = fold.m;
  }
};

template <int kHeadDim>
__device__ __forceinline__ void StorePiece(const AttentionParams& p,
                                           const AttentionUnit& unit, int item,
                                           const FoldedPiece& piece,
                                           float* folded) {
  constexpr int kPieces = kHeadDim / 4;
  const int row = item / kPieces, at = item % kPieces;
  if (folded != nullptr) {
    float* to = folded + row * (kHeadDim + 4);
    __stcg(reinterpret_cast<float4*>(to) + at, piece.o);
    if (at == 0) {
      __stcg(reinterpret_cast<float2*>(to + kHeadDim),
             make_float2(piece.m, piece.l));
    }
    return;
  }
  const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
  const int in_seq = unit.row_begin + row;
  const int64_t token = unit.query_start + in_seq / group;
  const int head = unit.kv_head * group + in_seq % group;
  const float normalizer = Normalizer(piece.l);
  uint2 packed;
  packed.x = PackBf16(Normalize(piece.o.x, normalizer),
                      Normalize(piece.o.y, normalizer));
  packed.y = PackBf16(Normalize(piece.o.z, normalizer),
                      Normalize(piece.o.w, normalizer));
  reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(p.out) +
                           (token * p.num_q_heads + head) * kHeadDim)[at] =
      packed;
}

// A warp folds states into `folded` or, if that is null, into the result. A
// lane has kItems pieces in hand and loads kBatch states of each at once.
template <int kHeadDim, int kItems, int kBatch>
__device__ __noinline__ void FoldStored(const AttentionParams& p,
                                        const AttentionUnit& unit, StateRun run,
                                        float* folded) {
  constexpr int kPieces = kHeadDim / 4;
  const float scale = p.scale * kLog2E;
  const int items = unit.num_rows * kPieces;
#pragma unroll 1
  for (int first = threadIdx.x % 32; first < items; first += 32 * kItems) {
    FoldedPiece pieces[kItems];
    // Those beyond the last item repeat it, and are not stored.
    const float* from[kItems];
    int at[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int item = min(first + i * 32, items - 1);
      from[i] = run.first + item / kPieces * (kHeadDim + 4);
      at[i] = item % kPieces;
    }
#pragma unroll 1
    for (int base = 0; base < run.count; base += kBatch) {
      float4 later[kItems][kBatch];
      float2 ml[kItems][kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int64_t offset = min(base + b, run.count - 1) * run.apart;
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const float* state = from[i] + offset;
          ml[i][b] = __ldcg(reinterpret_cast<const float2*>(state + kHeadDim));
          later[i][b] = __ldcg(reinterpret_cast<const float4*>(state) + at[i]);
        }
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (base + b >= run.count) break;
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          pieces[i].Add(later[i][b], ml[i][b], scale);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      if (first + i * 32 < items) {
        StorePiece<kHeadDim>(p, unit, first + i * 32, pieces[i], folded);
      }
    }
  }
}

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_FOLD_CUH_
