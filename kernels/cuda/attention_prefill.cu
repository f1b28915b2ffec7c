// SPDX-License-Identifier: Apache-2.0
//
// Prefills. A thread block takes kPrefillRows rows of a sequence and one KV
// head: a warp has 16 of them, and all warps share each tile of keys and values
// in shared memory, copied one tile ahead, as products read it where the cache
// is tiled. The order of arithmetic is that of decodes (attention_plan.h).
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_runs.cuh"
#include "kernels/cuda/attention_state.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace quire::attention {
namespace {

constexpr int kWarps = kPrefillRows / kMmaRows;
constexpr int kThreads = kWarps * 32;
// Warps that copy a tiled cache.
constexpr int kCopiers = kTile / (2 * kTileTokens);

// Two stages, each a tile of keys and values as matrix instructions read them.
template <int kHeadDim, bool kIsTiled>
struct BlockMemory {
  using Rows =
      std::conditional_t<kIsTiled, TiledRows<kHeadDim>, PaddedRows<kHeadDim>>;
  static constexpr int kTileBytes = kTile / kChunk * Rows::kChunkBytes;
  alignas(kIsTiled ? 128 : 16) uint8_t keys[2][kTileBytes];
  alignas(kIsTiled ? 128 : 16) uint8_t values[2][kTileBytes];
  uint64_t full[2];  // copies of a tiled cache's have arrived
  int32_t tile;

  // By one thread.
  __device__ void Init() {
    for (uint64_t& barrier : full) {
      InitBarrier(SharedAddress(&barrier), 2 * kCopiers);
    }
    FenceAsyncProxy();
  }

  // Of a line of a tiled cache.
  static __device__ __forceinline__ int At(int part, int row) {
    return row / kChunk * Rows::kChunkBytes + part * (kChunk * kTileRowBytes) +
           row % kChunk * kTileRowBytes;
  }
};

// This thread's share of copying tiles of keys and values.
template <int kHeadDim>
class LineCopier {
 public:
  using Memory = BlockMemory<kHeadDim, false>;

  __device__ __forceinline__ LineCopier(const AttentionParams& p,
                                        const AttentionPlan& plan,
                                        const TileRows& rows, Memory* memory)
      : p_(p),
        rows_(rows),
        cache_(p, plan, rows.seq_slot, rows.kv_head),
        memory_(memory) {}

  // Looks up where the tile at position `at` lies; for the next Copy().
  __device__ __forceinline__ void LookUp(int at) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = i * kThreads + threadIdx.x;
      // Some position that can be read, if no key of the tile's.
      from_[i] = cache_.At(max(
          rows_.kv_begin, min(at + index / kUnits, max(rows_.kv_end, 1) - 1)));
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
      const __nv_bfloat16* key =
          base + int64_t{from_[i]} * kHeadDim + unit * kTileUnit;
      const uint32_t to = Memory::Rows::First(row, unit);
      CopyAsync(SharedAddress(memory_->keys[stage]) + to, key, is_valid);
      CopyAsync(SharedAddress(memory_->values[stage]) + to,
                key + int64_t{cache_.to_values} * kHeadDim, is_valid);
    }
    CommitCopies();
  }

  // Until the last tile is there, of all threads', and nobody reads the other
  // stage.
  __device__ __forceinline__ void Wait(int /*stage*/) {
    WaitForCopies<0>();
    __syncthreads();
  }

 private:
  static constexpr int kUnits = kHeadDim / kTileUnit;  // of a row
  static constexpr int kCopies = (kTile * kUnits + kThreads - 1) / kThreads;

  const AttentionParams& p_;
  const TileRows& rows_;
  const CacheRows cache_;
  Memory* memory_;
  uint32_t from_[kCopies];  // rows
};

// The same of a tiled cache: the first warps copy, 16 rows each.
template <int kHeadDim>
class RunCopier {
 public:
  using Memory = BlockMemory<kHeadDim, true>;
  using Runs = TileRuns<kHeadDim, kTile / kCopiers, Memory>;

  // `parities`: of the stages' next phases.
  __device__ __forceinline__ RunCopier(const AttentionParams& p,
                                       const AttentionPlan& plan,
                                       const TileRows& rows, Memory* memory,
                                       int* parities)
      : rows_(rows),
        cache_(p, plan, rows.seq_slot, rows.kv_head),
        runs_(p, threadIdx.x / 32 * (kTile / kCopiers)),
        memory_(memory),
        parities_(parities) {}

  __device__ __forceinline__ void LookUp(int at) {
    if (IsCopier()) line_ = runs_.LookUp(cache_, rows_, at);
  }

  __device__ __forceinline__ void Copy(int at, int stage) {
    if (!IsCopier()) return;
    const uint32_t full = SharedAddress(&memory_->full[stage]);
    runs_.Copy(rows_, at, line_, 0, /*is_values=*/false, memory_->keys[stage],
               full);
    runs_.Copy(rows_, at, line_, cache_.to_values * Runs::kParts,
               /*is_values=*/true, memory_->values[stage], full);
  }

  // Bulk copies are to come after what all threads have read.
  __device__ __forceinline__ void Wait(int stage) {
    WaitForPhase(SharedAddress(&memory_->full[stage]), *parities_ >> stage & 1);
    *parities_ ^= 1 << stage;
    FenceAsyncProxy();
    __syncthreads();
  }

 private:
  static __device__ __forceinline__ bool IsCopier() {
    return threadIdx.x < kCopiers * 32;
  }

  const TileRows& rows_;
  const CacheRows cache_;
  const Runs runs_;
  Memory* memory_;
  int* parities_;  // a bit each
  uint32_t line_ = kNoRow;
};

// A warp's 16 rows. kFoldInRegisters: the folded splits of a node stay in
// registers, where they fit.
template <int kHeadDim, bool kIsTiled>
class WarpRows {
 public:
  static constexpr int kRowTiles = kMmaRows / kTileRows;
  using Memory = BlockMemory<kHeadDim, kIsTiled>;
  using Rows = typename Memory::Rows;
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
                                          const Memory& memory) {
    // A tile without a key for any of the rows changes nothing.
    if (num_rows_ <= 0 || at >= end_ || at + kTile <= begin_) return;
    float s[kTile / 16][kRowTiles][4] = {};
    const uint32_t keys = SharedAddress(memory.keys[stage]);
    const uint32_t values = SharedAddress(memory.values[stage]);
    constexpr int kChunkBytes = Rows::kChunkBytes;
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

template <int kHeadDim, bool kIsTiled, typename Copier>
__device__ __forceinline__ void RunRows(
    const AttentionParams& p, const AttentionPlan& plan, const TileRows& rows,
    Copier copier, const BlockMemory<kHeadDim, kIsTiled>* memory) {
  int at = rows.kv_begin / kTile * kTile;
  copier.LookUp(at);
  copier.Copy(at, 0);
  copier.LookUp(at + kTile);
  WarpRows<kHeadDim, kIsTiled> warp(p, plan, rows);
  int stage = 0;
#pragma unroll 1
  while (true) {
    copier.Wait(stage);
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

template <int kHeadDim, bool kIsTiled>
__global__ void __launch_bounds__(kThreads, 1)
    PrefillKernel(const __grid_constant__ AttentionParams p,
                  const __grid_constant__ AttentionPlan plan) {
  extern __shared__ __align__(128) uint8_t shared[];
  auto* memory = reinterpret_cast<BlockMemory<kHeadDim, kIsTiled>*>(shared);
  int parities = 0;
  if (kIsTiled && threadIdx.x == 0) memory->Init();
  const int heads = p.cache.layout.num_kv_heads;
  const int total = plan.header->num_tiles * heads;
  const int group = p.num_q_heads / heads;
#pragma unroll 1
  while (true) {
    if constexpr (kIsTiled) FenceAsyncProxy();
    __syncthreads();
    if (threadIdx.x == 0) {
      memory->tile = atomicAdd(&plan.header->next_tile, 1);
    }
    __syncthreads();
    const int tile = memory->tile;
    if (tile >= total) break;
    const TileRows rows =
        DescribeTile(p, plan.tiles[tile / heads], group, tile % heads);
    if constexpr (kIsTiled) {
      RunRows(p, plan, rows,
              RunCopier<kHeadDim>(p, plan, rows, memory, &parities), memory);
    } else {
      RunRows(p, plan, rows, LineCopier<kHeadDim>(p, plan, rows, memory),
              memory);
    }
  }
  if (threadIdx.x == 0) LeavePrefill(plan);
}

template <int kHeadDim, bool kIsTiled>
cudaError_t LaunchWith(const AttentionParams& params, const AttentionPlan& plan,
                       cudaStream_t stream) {
  constexpr int kBytes = sizeof(BlockMemory<kHeadDim, kIsTiled>);
  const auto kernel = PrefillKernel<kHeadDim, kIsTiled>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  kernel<<<plan.num_blocks, kThreads, kBytes, stream>>>(params, plan);
  return cudaGetLastError();
}

template <int kHeadDim>
cudaError_t LaunchFor(const AttentionParams& params, const AttentionPlan& plan,
                      cudaStream_t stream) {
  if constexpr (kHeadDim % kTilePart == 0) {
    if (params.cache.layout.order == KvOrder::kTiles) {
      return LaunchWith<kHeadDim, true>(params, plan, stream);
    }
  }
  return LaunchWith<kHeadDim, false>(params, plan, stream);
}

}  // namespace

cudaError_t LaunchPrefill(const AttentionParams& params,
                          const AttentionPlan& plan, cudaStream_t stream) {
  return ForHeadDim(params.cache.layout.head_dim, [&](auto head_dim) {
    return LaunchFor<head_dim()>(params, plan, stream);
  });
}

}  // namespace quire::attention
