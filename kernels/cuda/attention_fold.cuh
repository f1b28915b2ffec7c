// SPDX-License-Identifier: Apache-2.0
//
// What decodes leave for one another: states of splits and of nodes, each word
// of which tells by itself that it is there (left_sums.cuh), and how eights of
// lanes fold them.
#ifndef KERNELS_CUDA_ATTENTION_FOLD_CUH_
#define KERNELS_CUDA_ATTENTION_FOLD_CUH_

#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"
#include "kernels/cuda/left_sums.cuh"

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

// m and l of a row's part lie behind the row.
__device__ __forceinline__ float* PartSums(float* row, int head_dim, int part) {
  return row + head_dim + 2 * part;
}

__device__ __forceinline__ void LeaveWord(float* to, float value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to),
               "r"(left::WordOf(value))
               : "memory");
}
__device__ __forceinline__ void LeavePair(float* to, uint32_t a, uint32_t b) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(a),
               "r"(b)
               : "memory");
}
__device__ __forceinline__ uint2 LoadPair(const float* from) {
  uint2 words;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];"
               : "=r"(words.x), "=r"(words.y)
               : "l"(from)
               : "memory");
  return words;
}
__device__ __forceinline__ bool IsThere(const uint2& words) {
  return words.x != left::kEmptyWord && words.y != left::kEmptyWord;
}

// Leaves the first num_rows rows of a state at `to`.
template <int kHeadDim, int kRowTiles>
__device__ __forceinline__ void LeaveState(
    const RowState<kHeadDim, kRowTiles>& state, int lane, int num_rows,
    float* to) {
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = tile * kTileRows + (lane & 3) * 2 + i;
      if (row >= num_rows) continue;
      float* const first = to + row * LeftRowFloats(kHeadDim);
#pragma unroll
      for (int j = 0; j < kHeadDim / 16; ++j) {
        LeaveWord(first + j * 16 + lane / 4, state.o[j][tile][i]);
        LeaveWord(first + j * 16 + 8 + lane / 4, state.o[j][tile][i + 2]);
      }
      if (lane / 4 < NumParts(kHeadDim)) {
        LeavePair(PartSums(first, kHeadDim, lane / 4),
                  left::WordOf(state.m[tile][i]),
                  left::WordOf(state.l[tile][i]));
      }
    }
  }
}

// Left states of one row, or one part of it: `count` of them, `apart` floats
// from one to the next.
struct StateRun {
  float* first;  // its row
  int32_t apart;
  int count;

  __device__ __forceinline__ float* Row(int at) const {
    return first + int64_t{at} * apart;
  }
};

// What a lane holds of a folded row: four elements of it, and m and l. The
// eight lanes of a part of the columns hold its elements in order.
struct FoldedPiece {
  static constexpr int kBatch = 8;  // states folded at once, lanes that do it

  float4 o = {0, 0, 0, 0};
  float m = NegativeInfinity();
  float l = 0.0f;

  // Folds up to kBatch states into it, waiting for those that are not there
  // yet, and leaves their memory empty; `column`: of this lane's first element,
  // kHeadDim or more if it has none. What a state and all before it are
  // multiplied by follows from their maxima alone: of each eight lanes, one
  // computes it for one. All lanes of a warp call it, those of eights without
  // work with run.count 0.
  template <int kHeadDim>
  __device__ __forceinline__ void TakeBatch(const StateRun& run, int column,
                                            float scale, int lane) {
    const int own = lane % kBatch;
    const int part = column / kPartColumns;
    const bool has_sums = own < run.count && part < NumParts(kHeadDim);
    const int num_pieces = column < kHeadDim ? run.count : 0;
    float* const sums = PartSums(run.Row(own), kHeadDim, part);
    uint4 words[kBatch] = {};
    uint2 own_words = make_uint2(__float_as_uint(NegativeInfinity()), 0);
    if (has_sums) own_words = LoadPair(sums);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (b < num_pieces) words[b] = left::LoadWords(Piece(run, b, column));
    }
    while (!AreThere(own_words, words)) {
      if (!IsThere(own_words)) own_words = LoadPair(sums);
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (!left::IsThere(words[b])) {
          words[b] = left::LoadWords(Piece(run, b, column));
        }
      }
    }
    if (has_sums) LeavePair(sums, left::kEmptyWord, left::kEmptyWord);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (b < num_pieces) left::StoreWords(Piece(run, b, column), EmptyWords());
    }
    __syncwarp();
    FoldWords(own_words, words, scale, own);
  }

  // Folds one state into it.
  __device__ __forceinline__ void Add(const FoldedPiece& later, float scale) {
    if (later.m == NegativeInfinity()) return;
    const Fold fold(m, later.m, scale);
    AddPiece(fold, later.o);
    l = fold(l, later.l);
    m = fold.m;
  }

 private:
  static __device__ __forceinline__ uint4 EmptyWords() {
    return make_uint4(left::kEmptyWord, left::kEmptyWord, left::kEmptyWord,
                      left::kEmptyWord);
  }
  static __device__ __forceinline__ uint4* Piece(const StateRun& run, int at,
                                                 int column) {
    return reinterpret_cast<uint4*>(run.Row(at) + column);
  }
  static __device__ __forceinline__ bool AreThere(
      const uint2& own_words, const uint4 (&words)[kBatch]) {
    bool are_there = IsThere(own_words);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) are_there &= left::IsThere(words[b]);
    return are_there;
  }

  __device__ __forceinline__ void FoldWords(const uint2& own_words,
                                            const uint4 (&words)[kBatch],
                                            float scale, int own) {
    const float own_m = __uint_as_float(own_words.x);
    const float own_l = __uint_as_float(own_words.y);
    float top = fmaxf(m, own_m);
#pragma unroll
    for (int step = 1; step < kBatch; step *= 2) {
      const float other = __shfl_up_sync(~0u, top, step, kBatch);
      if (own >= step) top = fmaxf(top, other);
    }
    const float before = __shfl_up_sync(~0u, top, 1, kBatch);
    Fold fold(own == 0 ? m : before, own_m, scale);
    // A state with no position changes nothing.
    const bool is_empty = own_m == NegativeInfinity();
    const float a = is_empty ? 1.0f : fold.a;
    const float b = is_empty ? 0.0f : fold.b;
    m = __shfl_sync(~0u, top, kBatch - 1, kBatch);
#pragma unroll
    for (int at = 0; at < kBatch; ++at) {
      fold.a = __shfl_sync(~0u, a, at, kBatch);
      fold.b = __shfl_sync(~0u, b, at, kBatch);
      l = fold(l, __shfl_sync(~0u, own_l, at, kBatch));
      AddPiece(fold, make_float4(__uint_as_float(words[at].x),
                                 __uint_as_float(words[at].y),
                                 __uint_as_float(words[at].z),
                                 __uint_as_float(words[at].w)));
    }
  }
  __device__ __forceinline__ void AddPiece(const Fold& fold,
                                           const float4& later) {
    o.x = fold(o.x, later.x);
    o.y = fold(o.y, later.y);
    o.z = fold(o.z, later.z);
    o.w = fold(o.w, later.w);
  }
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_FOLD_CUH_
