// SPDX-License-Identifier: Apache-2.0
//
// Where decodes store the states of splits and nodes, and how a warp folds a
// row's.
#ifndef KERNELS_CUDA_ATTENTION_FOLD_CUH_
#define KERNELS_CUDA_ATTENTION_FOLD_CUH_

#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"

namespace quire::attention {

// The state of a split of a kLeaf's rows, or of a node of rows with several.
static __device__ __forceinline__ float* SplitState(const AttentionParams& p,
                                                    const AttentionPlan& plan,
                                                    const AttentionUnit& unit,
                                                    int split) {
  const int slot = unit.leaf_slot + split - unit.rows_split_begin;
  return plan.leaf_states +
         (int64_t{slot} * p.cache.layout.num_kv_heads + unit.kv_head) *
             plan.state_floats;
}
static __device__ __forceinline__ float* NodeState(const AttentionParams& p,
                                                   const AttentionPlan& plan,
                                                   const AttentionUnit& unit,
                                                   int node) {
  const int slot = unit.node_slot + node - unit.rows_split_begin / kNodeSplits;
  return plan.node_states +
         (int64_t{slot} * p.cache.layout.num_kv_heads + unit.kv_head) *
             plan.state_floats;
}

// States of one row to fold: `count` of them, `apart` floats from one to the
// next.
struct StateRun {
  const float* first;
  int32_t apart;
  int count;
};

// What lanes hold of a row: kItems pieces of four elements, and m and l.
template <int kItems>
struct FoldedPieces {
  static constexpr int kBatch = 8;  // states folded at once, lanes that do it

  float4 o[kItems];
  float m = NegativeInfinity();
  float l = 0.0f;

  __device__ __forceinline__ FoldedPieces() {
#pragma unroll
    for (int i = 0; i < kItems; ++i) o[i] = make_float4(0, 0, 0, 0);
  }

  // Folds up to kBatch states of a run from `base` on. State s of the batch has
  // m and l at `ml` + s states and, of the lane's piece i, elements at
  // `from[i]` + s states. What a state and all before it are multiplied by
  // follows from their maxima alone: of each kBatch lanes, one computes it for
  // one.
  __device__ __forceinline__ void FoldBatch(const float* ml,
                                            const float* const (&from)[kItems],
                                            int32_t apart, int count,
                                            float scale, int lane) {
    const int own = lane % kBatch;
    float2 own_ml = make_float2(NegativeInfinity(), 0.0f);
    if (own < count) {
      own_ml = __ldcg(reinterpret_cast<const float2*>(ml + own * apart));
    }
    float4 later[kBatch][kItems];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        later[b][i] = make_float4(0, 0, 0, 0);
        if (b >= count) continue;
        later[b][i] =
            __ldcg(reinterpret_cast<const float4*>(from[i] + b * apart));
      }
    }
    float top = fmaxf(m, own_ml.x);
#pragma unroll
    for (int step = 1; step < kBatch; step *= 2) {
      const float other = __shfl_up_sync(~0u, top, step, kBatch);
      if (own >= step) top = fmaxf(top, other);
    }
    const float before = __shfl_up_sync(~0u, top, 1, kBatch);
    Fold fold(own == 0 ? m : before, own_ml.x, scale);
    // A state with no position changes nothing.
    const bool is_empty = own_ml.x == NegativeInfinity();
    const float a = is_empty ? 1.0f : fold.a;
    const float b = is_empty ? 0.0f : fold.b;
    m = __shfl_sync(~0u, top, kBatch - 1, kBatch);
#pragma unroll
    for (int at = 0; at < kBatch; ++at) {
      fold.a = __shfl_sync(~0u, a, at, kBatch);
      fold.b = __shfl_sync(~0u, b, at, kBatch);
      l = fold(l, __shfl_sync(~0u, own_ml.y, at, kBatch));
#pragma unroll
      for (int i = 0; i < kItems; ++i) AddPiece(fold, later[at][i], &o[i]);
    }
  }

  // Folds one state into it.
  __device__ __forceinline__ void Add(const FoldedPieces& later, float scale) {
    if (later.m == NegativeInfinity()) return;
    const Fold fold(m, later.m, scale);
#pragma unroll
    for (int i = 0; i < kItems; ++i) AddPiece(fold, later.o[i], &o[i]);
    l = fold(l, later.l);
    m = fold.m;
  }

 private:
  static __device__ __forceinline__ void AddPiece(const Fold& fold,
                                                  const float4& later,
                                                  float4* o) {
    o->x = fold(o->x, later.x);
    o->y = fold(o->y, later.y);
    o->z = fold(o->z, later.z);
    o->w = fold(o->w, later.w);
  }
};

// A row's state across a warp: lane i has elements 4 i to 4 i + 3 and, of head
// dims beyond 128, 128 more each.
template <int kHeadDim>
struct FoldedRow : FoldedPieces<(kHeadDim / 4 + 31) / 32> {
  static constexpr int kPieces = kHeadDim / 4;
  static constexpr int kItems = (kPieces + 31) / 32;

  // Folds a run into it.
  __device__ __forceinline__ void AddRun(const StateRun& run, float scale,
                                         int lane) {
#pragma unroll 1
    for (int base = 0; base < run.count; base += this->kBatch) {
      const float* first = run.first + base * run.apart;
      const float* from[kItems];
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        from[i] = first + min(lane + i * 32, kPieces - 1) * 4;
      }
      this->FoldBatch(first + kHeadDim, from, run.apart, run.count - base,
                      scale, lane);
    }
  }
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_FOLD_CUH_
