// SPDX-License-Identifier: Apache-2.0
//
// Prefills. A thread block takes kPrefillRows rows of a sequence and one KV
// head: a warp has 16 of them, and all warps share each tile of keys and values
// in shared memory, copied one tile ahead. The order of arithmetic is that of
// decodes (attention_plan.h).
#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace quire::attention {
namespace {

constexpr int kWarps = kPrefillRows / kMmaRows;
constexpr int kThreads = kWarps * 32;

template <int kHeadDim>
struct BlockMemory {
  static constexpr int kStride = kHeadDim + kRowPadding;
  alignas(16) __nv_bfloat16 keys[2][kTile][kStride];
  alignas(16) __nv_bfloat16 values[2][kTile][kStride];
  int32_t tile;
};

// This thread's share of copying tiles of keys and values.
template <int kHeadDim>
class TileCopier {
 public:
  __device__ __forceinline__ TileCopier(const AttentionParams& p,
                                        const AttentionPlan& plan,
                                        const TileRows& rows,
                                        BlockMemory<kHeadDim>* memory)
      : p_(p),
        rows_(rows),
        cache_(p, plan, rows.seq_slot, rows.kv_head),
        is_tiled_(p.cache.layout.order == KvOrder::kTiles),
        memory_(memory) {}

  // Looks up where the tile at position `at` lies; for the next Copy().
  __device__ __forceinline__ void LookUp(int at) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = i * kThreads + threadIdx.x;
      // Some position that can be read, if no key of the tile's.
      const int position = max(
          rows_.kv_begin, min(at + index / kUnits, max(rows_.kv_end, 1) - 1));
      from_[i] = is_tiled_ ? cache_.LineAt<kHeadDim>(
                                 position, index % kUnits / kTileUnits)
                           : cache_.At(position);
    }
  }

  // What lies outside [kv_begin, kv_end) becomes zeros.
  __device__ __forceinline__ void Copy(int at, int stage) {
    const __nv_bfloat16* base =
        static_cast<const __nv_bfloat16*>(p_.cache.base);
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = i * kThreads + threadIdx.x;
      if ((kTile * kUnits) % kThreads != 0 && index >= kTile * kUnits) break;
      const int row = index / kUnits, unit = index % kUnits;
      const int position = at + row;
      const bool is_valid =
          position >= rows_.kv_begin && position < rows_.kv_end;
      // Tiles begin where units of a tiled cache are not permuted.
      const __nv_bfloat16* key =
          is_tiled_ ? base + int64_t{from_[i]} * kTilePart +
                          (unit ^ row) % kTileUnits * kTileUnit
                    : base + int64_t{from_[i]} * kHeadDim + unit * kTileUnit;
      CopyAsync(SharedAddress(&memory_->keys[stage][row][unit * 8]), key,
                is_valid);
      CopyAsync(SharedAddress(&memory_->values[stage][row][unit * 8]),
                key + int64_t{cache_.to_values} * kHeadDim, is_valid);
    }
    CommitCopies();
  }

 private:
  static constexpr int kUnits = kHeadDim / kTileUnit;  // of a row
  static constexpr int kTileUnits = kTilePart / kTileUnit;
  static constexpr int kCopies = (kTile * kUnits + kThreads - 1) / kThreads;

  const AttentionParams& p_;
  const TileRows& rows_;
  const CacheRows cache_;
  const bool is_tiled_;
  BlockMemory<kHeadDim>* memory_;
  uint32_t from_[kCopies];  // rows or, of a tiled cache, lines
};

// A warp's 16 rows. kFoldInRegisters: the folded splits of a node stay in
// registers, where they fit.
template <int kHeadDim>
class WarpRows {
 public:
  static constexpr int kRowTiles = kMmaRows / kTileRows;
  using Rows = PaddedRows<kHeadDim>;
  static constexpr bool kFoldInRegisters = kHeadDim <= 128;
  using State = RowState<kHeadDim, kRowTiles>;

  __device__ __forceinline__ WarpRows(const AttentionParams& p,
                                      const AttentionPlan& plan,
                                      const TileRows& rows)
      : p_(p),
        rows_(rows),
        lane_(threadIdx.x % 32),
        scale_(p.scale * kLog2E),
        row_begin_(rows.row_begin + threadIdx.x / 32 * kMmaRows),
        num_rows_(min(kMmaRows, rows.row_begin + rows.num_rows - row_begin_)) {
    // One place per block for the nodes, and one for a node in work.
    constexpr int64_t kFloats = int64_t{kMmaRows} * (kHeadDim + 4);
    float* scratch =
        plan.block_states +
        (int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * 2 * kFloats;
    node_ = {scratch};
    all_ = {scratch + kFloats};
    const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
    queries_.Load(p, group, rows.query_start, rows.position, rows.kv_head,
                  row_begin_, num_rows_, lane_);
    state_.Reset();
    if constexpr (kFoldInRegisters) folded_.Reset();
    const int first_end = rows.position + row_begin_ / group + 1;
    begin_ = p.sliding_window > 0 ? first_end - p.sliding_window : 0;
    end_ = rows.position + (row_begin_ + num_rows_ - 1) / group + 1;
  }

  __device__ __forceinline__ void RunTile(int at, int stage,
                                          const BlockMemory<kHeadDim>& memory) {
    // A tile without a key for any of the rows changes nothing.
    if (num_rows_ <= 0 || at >= end_ || at + kTile <= begin_) return;
    float s[kTile / 16][kRowTiles][4] = {};
    const uint32_t keys = SharedAddress(memory.keys[stage]);
    const uint32_t values = SharedAddress(memory.values[stage]);
    constexpr int kChunkBytes = kChunk * BlockMemory<kHeadDim>::kStride * 2;
    ScoreChunk<Rows, kHeadDim, kRowTiles>(queries_.q, keys, lane_, s);
    ScoreChunk<Rows, kHeadDim, kRowTiles>(queries_.q, keys + kChunkBytes, lane_,
                                          s + kChunk / 16);
    if (at < queries_.whole_begin || at + kTile > queries_.whole_end) {
      MaskTile(at, lane_, queries_, s);
    }
    uint32_t weights[kTile / 16][kRowTiles][2];
    SoftmaxTile(s, scale_, &state_, weights);
    AccumulateChunk<Rows>(weights, values, lane_, &state_);
    AccumulateChunk<Rows>(weights + kChunk / 16, values + kChunkBytes, lane_,
                          &state_);
  }

  // Ends the split whose last position is before `at`, and its node or the
  // whole if they end there too.
  __device__ __forceinline__ void EndSplit(int at, bool is_last) {
    if (num_rows_ <= 0) return;
    const bool ends_node = is_last || at % (kSplit * kNodeSplits) == 0;
    if constexpr (kFoldInRegisters) {
      FoldInto(state_, scale_, &folded_);
      state_.Reset();
      if (!ends_node) return;
      EndNode(folded_, is_last);
      folded_.Reset();
    } else {
      node_.Add(&state_, scale_, !has_split_, lane_, num_rows_);
      has_split_ = true;
      if (ends_node) {
        EndNode(state_, is_last);
        has_split_ = false;
      }
      state_.Reset();
    }
  }

 private:
  __device__ __forceinline__ void EndNode(State& node, bool is_last) {
    if (!is_last || has_node_) {
      all_.Add(&node, scale_, !has_node_, lane_, num_rows_);
      has_node_ = true;
      if (!is_last) return;
    }
    WriteRows(p_, node, rows_.query_start, row_begin_, num_rows_, rows_.kv_head,
              lane_);
  }

  const AttentionParams& p_;
  const TileRows& rows_;
  const int lane_;
  const float scale_;
  const int row_begin_;
  const int num_rows_;  // may be negative
  int begin_, end_;     // positions that any of the rows attends to
  StoredState<kHeadDim, kRowTiles> node_, all_;
  bool has_split_ = false;
  bool has_node_ = false;
  QueryRows<kHeadDim, kRowTiles> queries_;
  State state_;
  RowState<kFoldInRegisters ? kHeadDim : 16, kRowTiles> folded_;
};

template <int kHeadDim>
__device__ __forceinline__ void RunRows(const AttentionParams& p,
                                        const AttentionPlan& plan,
                                        const TileRows& rows,
                                        BlockMemory<kHeadDim>* memory) {
  int at = rows.kv_begin / kTile * kTile;
  TileCopier<kHeadDim> copier(p, plan, rows, memory);
  copier.LookUp(at);
  copier.Copy(at, 0);
  copier.LookUp(at + kTile);
  WarpRows<kHeadDim> warp(p, plan, rows);
  int stage = 0;
#pragma unroll 1
  while (true) {
    WaitForCopies<0>();
    __syncthreads();  // this tile is there; nobody reads the other stage
    const int next = at + kTile;
    const bool is_last = next >= rows.kv_end;
    if (!is_last) {
      copier.Copy(next, stage ^ 1);
      copier.LookUp(next + kTile);
    }
    warp.RunTile(at, stage, *memory);
    if (is_last || next % kSplit == 0) warp.EndSplit(next, is_last);
    if (is_last) break;
    at = next;
    stage ^= 1;
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1)
    PrefillKernel(const __grid_constant__ AttentionParams p,
                  const __grid_constant__ AttentionPlan plan) {
  extern __shared__ __align__(16) uint8_t shared[];
  auto* memory = reinterpret_cast<BlockMemory<kHeadDim>*>(shared);
  const int heads = p.cache.layout.num_kv_heads;
  const int total = plan.header->num_tiles * heads;
  const int group = p.num_q_heads / heads;
#pragma unroll 1
  while (true) {
    __syncthreads();
    if (threadIdx.x == 0) {
      memory->tile = atomicAdd(&plan.header->next_tile, 1);
    }
    __syncthreads();
    const int tile = memory->tile;
    if (tile >= total) break;
    const TileRows rows =
        DescribeTile(p, plan.tiles[tile / heads], group, tile % heads);
    RunRows<kHeadDim>(p, plan, rows, memory);
  }
  if (threadIdx.x == 0) LeavePrefill(plan);
}

template <int kHeadDim>
cudaError_t LaunchFor(const AttentionParams& params, const AttentionPlan& plan,
                      cudaStream_t stream) {
  constexpr int kBytes = sizeof(BlockMemory<kHeadDim>);
  const auto kernel = PrefillKernel<kHeadDim>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  kernel<<<plan.num_blocks, kThreads, kBytes, stream>>>(params, plan);
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchPrefill(const AttentionParams& params,
                          const AttentionPlan& plan, cudaStream_t stream) {
  return ForHeadDim(params.cache.layout.head_dim, [&](auto head_dim) {
    return LaunchFor<head_dim()>(params, plan, stream);
  });
}

}  // namespace quire::attention
