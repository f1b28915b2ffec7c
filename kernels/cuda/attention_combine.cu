// SPDX-License-Identifier: Apache-2.0
//
// Combines the states that decodes stored: of rows whose splits several warps
// had, and of those with more than one node. A warp folds a row; where the
// splits of many nodes are to be folded, a block does, or several do, each some
// of its columns.
#include <cstdint>

#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::attention {
namespace {

// Few enough for a block to begin beside one of decodes (attention_decode.cu).
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kMinBlocks = 4;

__device__ __forceinline__ int FirstNode(const AttentionUnit& rows) {
  return rows.rows_split_begin / kNodeSplits;
}
__device__ __forceinline__ int EndNode(const AttentionUnit& rows) {
  return (rows.rows_split_end - 1) / kNodeSplits + 1;
}

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
};

// Where a row's result goes.
template <int kHeadDim>
__device__ __forceinline__ __nv_bfloat16* RowOut(const AttentionParams& p,
                                                 const AttentionUnit& rows,
                                                 int row) {
  const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
  const int in_seq = rows.row_begin + row;
  const int64_t token = rows.query_start + in_seq / group;
  const int head = rows.kv_head * group + in_seq % group;
  return static_cast<__nv_bfloat16*>(p.out) +
         (token * p.num_q_heads + head) * kHeadDim;
}

template <int kHeadDim>
class Combiner {
 public:
  using Row = FoldedRow<kHeadDim>;

  __device__ __forceinline__ Combiner(const AttentionParams& p,
                                      const AttentionPlan& plan)
      : p_(p), plan_(plan), lane_(threadIdx.x % 32), scale_(p.scale * kLog2E) {}

  __device__ __forceinline__ void FoldAlone(const AttentionUnit& rows,
                                            int row) {
    Row all;
    if (rows.kind == kLeaf) {
#pragma unroll 1
      for (int node = FirstNode(rows); node < EndNode(rows); ++node) {
        all.Add(FoldNode(rows, row, node), scale_);
      }
    } else {
      const int first = FirstNode(rows);
      all.AddRun(
          RunOf(NodeState(p_, plan_, rows, first), row, EndNode(rows) - first),
          scale_, lane_);
    }
    Write(rows, row, all);
  }

 private:
  __device__ __forceinline__ StateRun RunOf(const float* first, int row,
                                            int count) const {
    return {first + row * (kHeadDim + 4),
            p_.cache.layout.num_kv_heads * plan_.state_floats, count};
  }

  // The splits of a kLeaf's node.
  __device__ __forceinline__ Row FoldNode(const AttentionUnit& rows, int row,
                                          int node) const {
    const int begin = max(rows.rows_split_begin, node * kNodeSplits);
    const int end = min(rows.rows_split_end, (node + 1) * kNodeSplits);
    Row folded;
    folded.AddRun(RunOf(SplitState(p_, plan_, rows, begin), row, end - begin),
                  scale_, lane_);
    return folded;
  }

  __device__ __forceinline__ void Write(const AttentionUnit& rows, int row,
                                        const Row& folded) {
    uint2* to = reinterpret_cast<uint2*>(RowOut<kHeadDim>(p_, rows, row));
    const float normalizer = Normalizer(folded.l);
#pragma unroll
    for (int i = 0; i < Row::kItems; ++i) {
      const float4& o = folded.o[i];
      const uint2 packed = {
          PackBf16(Normalize(o.x, normalizer), Normalize(o.y, normalizer)),
          PackBf16(Normalize(o.z, normalizer), Normalize(o.w, normalizer))};
      if (lane_ + i * 32 < Row::kPieces) to[lane_ + i * 32] = packed;
    }
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  const int lane_;
  const float scale_;
};

// Rows of many nodes, by all warps of a block. Lanes in eights fold a node's
// splits, of one part of the columns each; what they find they share, and a
// warp folds a part of all nodes.
template <int kHeadDim>
class LongCombiner {
 public:
  static constexpr int kPartColumns = 32;
  static constexpr int kParts = (kHeadDim + kPartColumns - 1) / kPartColumns;
  static constexpr int kEights = kThreads / 8;

  struct Memory {
    float o[kEights][kPartColumns];
    float2 ml[kEights];
  };

  // `parts`: of the columns that the block folds, from `first_part` on.
  __device__ __forceinline__ LongCombiner(const AttentionParams& p,
                                          const AttentionPlan& plan,
                                          Memory* memory, int first_part,
                                          int parts)
      : p_(p),
        plan_(plan),
        memory_(memory),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32),
        first_part_(first_part),
        parts_(parts),
        scale_(p.scale * kLog2E) {}

  __device__ __forceinline__ void Run(const AttentionUnit& rows, int row) {
    const int nodes_at_once = kEights / parts_;
    const int end = EndNode(rows);
    float o = 0.0f, m = NegativeInfinity(), l = 0.0f;
#pragma unroll 1
    for (int node = FirstNode(rows); node < end; node += nodes_at_once) {
      const int count = min(nodes_at_once, end - node);
      __syncthreads();  // what was shared before is read
      ShareNodes(rows, row, node, count);
      __syncthreads();
      if (warp_ < parts_) FoldNodes(count, &o, &m, &l);
    }
    const int column = (first_part_ + warp_) * kPartColumns + lane_;
    if (warp_ >= parts_ || column >= kHeadDim) return;
    RowOut<kHeadDim>(p_, rows, row)[column] =
        __float2bfloat16_rn(Normalize(o, Normalizer(l)));
  }

 private:
  // Eights take nodes and parts in turns.
  __device__ __forceinline__ void ShareNodes(const AttentionUnit& rows, int row,
                                             int first, int count) {
    const int eight = threadIdx.x / 8;
    // Those beyond do what the last does: lanes of a warp stay together.
    const int item = min(eight, count * parts_ - 1);
    const int node = first + item / parts_, part = first_part_ + item % parts_;
    const int begin = max(rows.rows_split_begin, node * kNodeSplits);
    const int end = min(rows.rows_split_end, (node + 1) * kNodeSplits);
    const float* state =
        SplitState(p_, plan_, rows, begin) + row * (kHeadDim + 4);
    const int column = part * kPartColumns + lane_ % 8 * 4;
    const float* const from[1] = {state + min(column, kHeadDim - 4)};
    FoldedPieces<1> folded;
    folded.FoldBatch(state + kHeadDim, from,
                     p_.cache.layout.num_kv_heads * plan_.state_floats,
                     end - begin, scale_, lane_);
    if (eight != item) return;
    *reinterpret_cast<float4*>(&memory_->o[item][lane_ % 8 * 4]) = folded.o[0];
    if (lane_ % 8 == 0) memory_->ml[item] = make_float2(folded.m, folded.l);
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
  const int first_part_;
  const int parts_;
  const float scale_;
};

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    CombineKernel(const __grid_constant__ AttentionParams p,
                  const __grid_constant__ AttentionPlan plan) {
  __shared__ typename LongCombiner<kHeadDim>::Memory memory;
  LetNextKernelBegin();
  // The plan is there: decodes let nothing begin before.
  Combiner<kHeadDim> combiner(p, plan);
  const int per_fold = p.cache.layout.num_kv_heads * plan.decode_rows;
  const int end = plan.header->num_folds * per_fold;
  const int num_long = plan.header->num_long_folds;
  const int lane = threadIdx.x % 32;
  const int step = gridDim.x * kWarps;
  // A row for each block or, if those are too few for all blocks, a part of a
  // row's columns.
  using Long = LongCombiner<kHeadDim>;
  const int num_rows = num_long * per_fold;
  const int parts = num_rows * Long::kParts > gridDim.x ? Long::kParts : 1;
  const int per_row = Long::kParts / parts;
  const int32_t* long_folds = plan.folds + plan.fold_capacity - num_long;
  // What there is to do is looked up before it is there to be done: a warp's
  // rows by a lane each.
  FoldItem own, next_long;
  int at = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  if (at + lane * step < end) own.Take(p, plan, plan.folds, at + lane * step);
  int at_long = blockIdx.x;
  if (at_long < num_rows * per_row) {
    next_long.Take(p, plan, long_folds, at_long / per_row);
  }
  WaitForEarlierKernels();
#pragma unroll 1
  for (int i = 0; at < end; at += step) {
    const FoldItem item = own.Of(i);
    if (item.row >= 0) combiner.FoldAlone(item.rows, item.row);
    if (++i < 32) continue;
    i = 0;
    const int next = at + (1 + lane) * step;
    if (next < end) own.Take(p, plan, plan.folds, next);
  }
#pragma unroll 1
  while (at_long < num_rows * per_row) {
    const FoldItem item = next_long;
    const int first_part = at_long % per_row * parts;
    at_long += gridDim.x;
    if (at_long < num_rows * per_row) {
      next_long.Take(p, plan, long_folds, at_long / per_row);
    }
    if (item.row >= 0) {
      Long(p, plan, &memory, first_part, parts).Run(item.rows, item.row);
    }
  }
}

template <int kHeadDim>
cudaError_t LaunchFor(const AttentionParams& params, const AttentionPlan& plan,
                      int32_t num_sms, cudaStream_t stream) {
  const auto kernel = CombineKernel<kHeadDim>;
  // As decodes have it, or a block would wait until theirs is gone.
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
      cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  return LaunchOverlapped(kernel, num_sms, kThreads, 0, stream, params, plan);
}

}  // namespace

cudaError_t LaunchCombine(const AttentionParams& params,
                          const AttentionPlan& plan, int32_t num_sms,
                          cudaStream_t stream) {
  return ForHeadDim(params.cache.layout.head_dim, [&](auto head_dim) {
    return LaunchFor<head_dim()>(params, plan, num_sms, stream);
  });
}

}  // namespace quire::attention
