// SPDX-License-Identifier: Apache-2.0
//
// How decodes finish what several pairs had parts of: rows whose splits they
// shared, and those with more than one node. Whoever runs out of units folds
// what all left; a state that is not there yet is waited for. Its unit is some
// pair's, which waits for nobody: the launch's blocks run all at once.
#ifndef KERNELS_CUDA_ATTENTION_COMBINE_CUH_
#define KERNELS_CUDA_ATTENTION_COMBINE_CUH_

#include <cstdint>

#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"

namespace quire::attention {

// A row to fold. Of what describes its rows, no more than is used here.
struct FoldItem {
  AttentionUnit rows = {};
  int row = -1;  // none

  // Item `at` of the list of `folds`: a row of a KV head of some rows.
  __device__ __forceinline__ void Take(const AttentionParams& p,
                                       const AttentionPlan& plan,
                                       const int32_t* folds, int at) {
    const int heads = p.cache.layout.num_kv_heads;
    const int in_rows = at % plan.decode_rows;
    at /= plan.decode_rows;
    rows = plan.rows[folds[at / heads]];
    rows.kv_head = at % heads;
    row = in_rows < rows.num_rows ? in_rows : -1;
  }

  // That of another lane.
  __device__ __forceinline__ FoldItem Of(int lane) const {
    FoldItem item;
    item.row = __shfl_sync(~0u, row, lane);
    item.rows.kind = __shfl_sync(~0u, rows.kind, lane);
    item.rows.query_start = __shfl_sync(~0u, rows.query_start, lane);
    item.rows.row_begin = __shfl_sync(~0u, rows.row_begin, lane);
    item.rows.rows_split_begin = __shfl_sync(~0u, rows.rows_split_begin, lane);
    item.rows.rows_split_end = __shfl_sync(~0u, rows.rows_split_end, lane);
    item.rows.leaf_slot = __shfl_sync(~0u, rows.leaf_slot, lane);
    item.rows.node_slot = __shfl_sync(~0u, rows.node_slot, lane);
    item.rows.kv_head = __shfl_sync(~0u, rows.kv_head, lane);
    return item;
  }

  __device__ __forceinline__ int FirstNode() const {
    return rows.rows_split_begin / kNodeSplits;
  }
  __device__ __forceinline__ int EndNode() const {
    return (rows.rows_split_end - 1) / kNodeSplits + 1;
  }

  // The states of some nodes, or of the splits of a kLeaf's node.
  template <int kHeadDim>
  __device__ __forceinline__ StateRun Nodes(const AttentionParams& p,
                                            const AttentionPlan& plan,
                                            int begin, int end) const {
    return {NodeState(p, plan, rows, begin) + row * LeftRowFloats(kHeadDim),
            p.cache.layout.num_kv_heads * plan.state_floats, end - begin};
  }
  template <int kHeadDim>
  __device__ __forceinline__ StateRun Splits(const AttentionParams& p,
                                             const AttentionPlan& plan,
                                             int node) const {
    const int begin = max(rows.rows_split_begin, node * kNodeSplits);
    const int end = min(rows.rows_split_end, (node + 1) * kNodeSplits);
    return {SplitState(p, plan, rows, begin) + row * LeftRowFloats(kHeadDim),
            p.cache.layout.num_kv_heads * plan.state_floats, end - begin};
  }

  // Where the row's result goes.
  template <int kHeadDim>
  __device__ __forceinline__ __nv_bfloat16* Out(
      const AttentionParams& p) const {
    const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
    const int in_seq = rows.row_begin + row;
    const int64_t token = rows.query_start + in_seq / group;
    const int head = rows.kv_head * group + in_seq % group;
    return static_cast<__nv_bfloat16*>(p.out) +
           (token * p.num_q_heads + head) * kHeadDim;
  }
};

// Rows that one warp folds alone, of blocks of kThreads.
template <int kHeadDim, int kThreads>
class Combiner {
 public:
  __device__ __forceinline__ Combiner(const AttentionParams& p,
                                      const AttentionPlan& plan)
      : p_(p),
        plan_(plan),
        lane_(threadIdx.x % 32),
        scale_(p.scale * kLog2E) {}

  // Of its rows a warp folds those first whose states are there: a lane each
  // looks for them.
  __device__ __forceinline__ void Run() {
    constexpr int kWarps = kThreads / 32;
    const int heads = p_.cache.layout.num_kv_heads;
    const int end = plan_.header->num_folds * heads * plan_.decode_rows;
    const int step = gridDim.x * kWarps;
    // The last warps of a block, those that copied, are done first.
    const int warp = kWarps - 1 - threadIdx.x / 32;
    // In a step that all pairs have a part of, as few blocks as can: the others
    // leave room for the next kernel. In a smaller one, of as many as can.
    const bool is_full = plan_.header->num_units * heads >= plan_.num_pairs;
    int first = is_full ? blockIdx.x * kWarps + warp
                        : warp * gridDim.x + blockIdx.x;
#pragma unroll 1
    for (; first < end; first += 32 * step) {
      FoldItem own;
      const int at = first + lane_ * step;
      if (at < end) own.Take(p_, plan_, plan_.folds, at);
      uint32_t missing = __ballot_sync(~0u, own.row >= 0);
#pragma unroll 1
      while (missing != 0) {
        const bool is_missing = missing >> lane_ & 1;
        uint32_t ready = __ballot_sync(~0u, is_missing && IsReady(own));
        missing ^= ready;
        if (ready == 0) __nanosleep(kPauseNs);
#pragma unroll 1
        for (; ready != 0; ready &= ready - 1) {
          FoldRow(own.Of(__ffs(ready) - 1));
        }
      }
    }
  }

 private:
  static constexpr int kColumns = 128;  // that a warp folds at once
  // Between looks for states. Without it, what is waited for came 3 us later
  // where sequences were few (one of 512 tokens, H200).
  static constexpr int kPauseNs = 100;

  // Whether the row's last states are there.
  __device__ __forceinline__ bool IsReady(const FoldItem& item) const {
    const int last = item.EndNode() - 1;
    StateRun run;
    if (item.rows.kind == kLeaf) {
      run = item.Splits<kHeadDim>(p_, plan_, last);
    } else {
      run = item.Nodes<kHeadDim>(p_, plan_, max(item.FirstNode(), last + 1 - 8),
                                 last + 1);
    }
    uint2 words[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      words[i] = make_uint2(0, 0);
      if (i < run.count) words[i] = LoadPair(PartSums(run.Row(i), kHeadDim, 0));
    }
    bool is_ready = true;
#pragma unroll
    for (int i = 0; i < 8; ++i) is_ready &= IsThere(words[i]);
    return is_ready;
  }

  __device__ __forceinline__ void FoldRow(const FoldItem& item) {
#pragma unroll 1
    for (int first = 0; first < kHeadDim; first += kColumns) {
      const int column = first + lane_ * 4;
      Write(item, column,
            item.rows.kind == kLeaf ? FoldSplits(item, column)
                                    : FoldNodes(item, column));
    }
  }

  __device__ __forceinline__ FoldedPiece FoldSplits(const FoldItem& item,
                                                    int column) {
    FoldedPiece all;
#pragma unroll 1
    for (int node = item.FirstNode(); node < item.EndNode(); ++node) {
      FoldedPiece folded;
      folded.TakeBatch<kHeadDim>(item.Splits<kHeadDim>(p_, plan_, node), column,
                                 scale_, lane_);
      all.Add(folded, scale_);
    }
    return all;
  }
  __device__ __forceinline__ FoldedPiece FoldNodes(const FoldItem& item,
                                                   int column) {
    constexpr int kBatch = FoldedPiece::kBatch;
    FoldedPiece all;
#pragma unroll 1
    for (int node = item.FirstNode(); node < item.EndNode(); node += kBatch) {
      all.TakeBatch<kHeadDim>(
          item.Nodes<kHeadDim>(p_, plan_, node,
                               min(node + kBatch, item.EndNode())),
          column, scale_, lane_);
    }
    return all;
  }

  __device__ __forceinline__ void Write(const FoldItem& item, int column,
                                        const FoldedPiece& folded) {
    if (column >= kHeadDim) return;
    const float normalizer = Normalizer(folded.l);
    const float4& o = folded.o;
    *reinterpret_cast<uint2*>(item.Out<kHeadDim>(p_) + column) = {
        PackBf16(Normalize(o.x, normalizer), Normalize(o.y, normalizer)),
        PackBf16(Normalize(o.z, normalizer), Normalize(o.w, normalizer))};
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  const int lane_;
  const float scale_;
};

// Rows of many nodes, by all warps of a block of kThreads. Lanes in eights fold
// a node's splits, of one part of the columns each; what they find they share,
// and a warp folds a part of all nodes.
template <int kHeadDim, int kThreads>
class LongCombiner {
 public:
  struct Memory {
    float o[kThreads / 8][kPartColumns];
    float2 ml[kThreads / 8];
    FoldItem items[2];
  };

  __device__ __forceinline__ LongCombiner(const AttentionParams& p,
                                          const AttentionPlan& plan,
                                          Memory* memory)
      : p_(p),
        plan_(plan),
        memory_(memory),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        scale_(p.scale * kLog2E) {}

  // A row for each block or, if those are too few for all blocks, a part of a
  // row's columns. By all threads; the last warp looks up what is to be done.
  __device__ __forceinline__ void Run() {
    const int32_t num_long = plan_.header->num_long_folds;
    const int32_t* folds = plan_.folds + plan_.fold_capacity - num_long;
    const int num_rows =
        num_long * p_.cache.layout.num_kv_heads * plan_.decode_rows;
    parts_ = num_rows * kParts > gridDim.x ? kParts : 1;
    const int per_row = kParts / parts_;
    int turn = 0;
#pragma unroll 1
    for (int at = blockIdx.x; at < num_rows * per_row; at += gridDim.x) {
      FoldItem* const item = &memory_->items[turn];
      turn ^= 1;
      if (threadIdx.x == kThreads - 1) {
        *item = FoldItem();
        item->Take(p_, plan_, folds, at / per_row);
      }
      __syncthreads();
      first_part_ = at % per_row * parts_;
      if (item->row >= 0) FoldRow(*item);
    }
  }

 private:
  static constexpr int kParts = NumParts(kHeadDim);
  static constexpr int kEights = kThreads / 8;

  __device__ __forceinline__ void FoldRow(const FoldItem& item) {
    const int nodes_at_once = kEights / parts_;
    const int end = item.EndNode();
    float o = 0.0f, m = NegativeInfinity(), l = 0.0f;
#pragma unroll 1
    for (int node = item.FirstNode(); node < end; node += nodes_at_once) {
      const int count = min(nodes_at_once, end - node);
      __syncthreads();  // what was shared before is read
      ShareNodes(item, node, count);
      __syncthreads();
      if (warp_ < parts_) FoldNodes(count, &o, &m, &l);
    }
    const int column = (first_part_ + warp_) * kPartColumns + lane_;
    if (warp_ >= parts_ || column >= kHeadDim) return;
    item.Out<kHeadDim>(p_)[column] =
        __float2bfloat16_rn(Normalize(o, Normalizer(l)));
  }

  // Eights take nodes and parts in turns.
  __device__ __forceinline__ void ShareNodes(const FoldItem& item, int first,
                                             int count) {
    const int eight = threadIdx.x / 8;
    const bool is_used = eight < count * parts_;
    const int node = is_used ? first + eight / parts_ : first;
    StateRun run = item.Splits<kHeadDim>(p_, plan_, node);
    if (!is_used) run.count = 0;
    FoldedPiece folded;
    folded.TakeBatch<kHeadDim>(
        run, (first_part_ + eight % parts_) * kPartColumns + lane_ % 8 * 4,
        scale_, lane_);
    if (!is_used) return;
    *reinterpret_cast<float4*>(&memory_->o[eight][lane_ % 8 * 4]) = folded.o;
    if (lane_ % 8 == 0) memory_->ml[eight] = make_float2(folded.m, folded.l);
  }

  // Lane i has column i of the warp's part.
  __device__ __forceinline__ void FoldNodes(int count, float* o, float* m,
                                            float* l) {
    float2 own = make_float2(NegativeInfinity(), 0.0f);
    if (lane_ < count) own = memory_->ml[lane_ * parts_ + warp_];
    float top = fmaxf(*m, own.x);
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const float other = __shfl_up_sync(~0u, top, step);
      if (lane_ >= step) top = fmaxf(top, other);
    }
    const float before = __shfl_up_sync(~0u, top, 1);
    Fold fold(lane_ == 0 ? *m : before, own.x, scale_);
    const bool is_empty = own.x == NegativeInfinity();
    const float a = is_empty ? 1.0f : fold.a;
    const float b = is_empty ? 0.0f : fold.b;
    *m = __shfl_sync(~0u, top, 31);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      fold.a = __shfl_sync(~0u, a, i);
      fold.b = __shfl_sync(~0u, b, i);
      *l = fold(*l, __shfl_sync(~0u, own.y, i));
      *o = fold(*o, memory_->o[i * parts_ + warp_][lane_]);
    }
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  Memory* memory_;
  const int lane_;
  const int warp_;
  const float scale_;
  int first_part_ = 0;
  int parts_ = 1;  // of the columns that the block folds, from first_part_ on
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_COMBINE_CUH_
