// SPDX-License-Identifier: Apache-2.0
//
// Combines the states that decodes stored: of rows whose splits several warps
// had, and of those with more than one node. A warp folds a row; where the
// splits of many nodes are to be folded, each warp of a block folds some nodes'
// and stores them, and one of them folds all nodes.
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

template <int kHeadDim>
class Combiner {
 public:
  using Row = FoldedRow<kHeadDim>;

  __device__ __forceinline__ Combiner(const AttentionParams& p,
                                      const AttentionPlan& plan)
      : p_(p),
        plan_(plan),
        lane_(threadIdx.x % 32),
        group_(p.num_q_heads / p.cache.layout.num_kv_heads),
        scale_(p.scale * kLog2E) {}

  // Rows of item `at` of the list of `folds`; false if there is no such row.
  __device__ __forceinline__ bool Take(const int32_t* folds, int at,
                                       AttentionUnit* rows, int* row) {
    const int heads = p_.cache.layout.num_kv_heads;
    *row = at % plan_.decode_rows;
    at /= plan_.decode_rows;
    *rows = plan_.rows[folds[at / heads]];
    rows->kv_head = at % heads;
    return *row < rows->num_rows;
  }

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
      all.Add(
          RunOf(NodeState(p_, plan_, rows, first), row, EndNode(rows) - first),
          scale_, lane_);
    }
    Write(rows, row, all);
  }

  // By all warps of the block.
  __device__ __forceinline__ void FoldTogether(const AttentionUnit& rows,
                                               int row) {
    const int warp = threadIdx.x / 32;
    const int first = FirstNode(rows), end = EndNode(rows);
#pragma unroll 1
    for (int node = first + warp; node < end; node += kWarps) {
      FoldNode(rows, row, node)
          .Store(NodeState(p_, plan_, rows, node) + row * (kHeadDim + 4),
                 lane_);
    }
    __syncthreads();
    if (warp > 0) return;
    Row all;
    all.Add(RunOf(NodeState(p_, plan_, rows, first), row, end - first), scale_,
            lane_);
    Write(rows, row, all);
  }

 private:
  __device__ __forceinline__ StateRun RunOf(const float* first, int row,
                                            int count) const {
    return {first + row * (kHeadDim + 4),
            int64_t{p_.cache.layout.num_kv_heads} * plan_.state_floats, count};
  }

  // The splits of a kLeaf's node.
  __device__ __forceinline__ Row FoldNode(const AttentionUnit& rows, int row,
                                          int node) const {
    const int begin = max(rows.rows_split_begin, node * kNodeSplits);
    const int end = min(rows.rows_split_end, (node + 1) * kNodeSplits);
    Row folded;
    folded.Add(RunOf(SplitState(p_, plan_, rows, begin), row, end - begin),
               scale_, lane_);
    return folded;
  }

  __device__ __forceinline__ void Write(const AttentionUnit& rows, int row,
                                        const Row& folded) {
    const int in_seq = rows.row_begin + row;
    const int64_t token = rows.query_start + in_seq / group_;
    const int head = rows.kv_head * group_ + in_seq % group_;
    uint2* to =
        reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(p_.out) +
                                 (token * p_.num_q_heads + head) * kHeadDim);
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
  const int group_;
  const float scale_;
};

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, kMinBlocks)
    CombineKernel(const __grid_constant__ AttentionParams p,
                  const __grid_constant__ AttentionPlan plan) {
  LetNextKernelBegin();
  // The plan is there: decodes let nothing begin before.
  Combiner<kHeadDim> combiner(p, plan);
  const int per_fold = p.cache.layout.num_kv_heads * plan.decode_rows;
  const int end = plan.header->num_folds * per_fold;
  const int num_long = plan.header->num_long_folds;
  const int step = gridDim.x * kWarps;
  AttentionUnit rows;
  int row;
  int at = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  bool is_row = at < end && combiner.Take(plan.folds, at, &rows, &row);
  WaitForEarlierKernels();
#pragma unroll 1
  while (at < end) {
    if (is_row) combiner.FoldAlone(rows, row);
    at += step;
    is_row = at < end && combiner.Take(plan.folds, at, &rows, &row);
  }
#pragma unroll 1
  for (at = blockIdx.x; at < num_long * per_fold; at += gridDim.x) {
    if (combiner.Take(plan.folds + plan.fold_capacity - num_long, at, &rows,
                      &row)) {
      combiner.FoldTogether(rows, row);
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
