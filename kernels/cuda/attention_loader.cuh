// SPDX-License-Identifier: Apache-2.0
//
// The warp group of a prefill's thread block that copies, and what it shares
// with those that compute.
#ifndef KERNELS_CUDA_ATTENTION_LOADER_CUH_
#define KERNELS_CUDA_ATTENTION_LOADER_CUH_

#include <cstdint>

#include "kernels/cuda/attention_async.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_runs.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/attention_wgmma.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::attention {

constexpr int kGroupThreads = 128;  // of a warp group
constexpr int kGroupWarps = 4;
constexpr int kConsumerGroups = 2;  // each computes half of a tile's rows
constexpr int kConsumerWarps = kConsumerGroups * kGroupWarps;
constexpr int kGroupRows = kPrefillRows / kConsumerGroups;
constexpr int kTileRing = 4;  // prefill tiles begun by the loader, not finished

template <int kHeadDim>
struct PrefillShape {
  // Products have as many columns; what is beyond kHeadDim is never read.
  static constexpr int kPadded = kHeadDim == 80 ? 96 : kHeadDim;
  static constexpr int kPart = kPadded % 64 == 0 ? 64 : 32;
  // Positions of one update of the online softmax, cut by position alone.
  static constexpr int kKeys = kHeadDim > 128 ? 64 : 128;
  // Tiles of keys or values in shared memory: as many as fit.
  static constexpr int kSlots = kHeadDim > 128 ? 5 : 6;
  static constexpr int kSlotBytes = kKeys * kPadded * 2;
  static constexpr int kPartBytes = kKeys * kPart * 2;
  static constexpr int kQueryPartBytes = kPrefillRows * kPart * 2;

  // Of a line of a tiled cache, in a slot.
  static __device__ __forceinline__ int At(int part, int row) {
    return part * kPartBytes + row * kTileRowBytes;
  }
};

// Slots hold a prefill tile's keys and values in the order of their use:
//   K0, K1, V0, K2, V1, ..., V of the last.
template <int kHeadDim>
struct PrefillMemory {
  using Shape = PrefillShape<kHeadDim>;

  alignas(1024) uint8_t queries[kPrefillRows * Shape::kPadded * 2];
  alignas(1024) uint8_t slots[Shape::kSlots][Shape::kSlotBytes];
  TileRows tiles[kTileRing];  // num_rows 0: no more
  uint64_t full[Shape::kSlots];
  uint64_t empty[Shape::kSlots];
  uint64_t queries_full[kConsumerGroups];
  uint64_t queries_empty[kConsumerGroups];
  uint64_t tile_full[kTileRing];
  uint64_t tile_empty[kTileRing];

  // By one thread.
  __device__ void Init() {
    for (int i = 0; i < Shape::kSlots; ++i) {
      InitBarrier(SharedAddress(&full[i]), kGroupWarps);
      InitBarrier(SharedAddress(&empty[i]), kConsumerWarps);
    }
    for (int i = 0; i < kConsumerGroups; ++i) {
      InitBarrier(SharedAddress(&queries_full[i]), kGroupWarps);
      InitBarrier(SharedAddress(&queries_empty[i]), kGroupWarps);
    }
    for (int i = 0; i < kTileRing; ++i) {
      InitBarrier(SharedAddress(&tile_full[i]), 1);
      InitBarrier(SharedAddress(&tile_empty[i]),
                  (kGroupWarps + kConsumerWarps) * 32);
    }
    FenceAsyncProxy();
  }

  // The tile at a place of the ring, until this thread gives it back.
  __device__ __forceinline__ const TileRows& TakeTile(
      const RingPosition<kTileRing>& at) {
    WaitForPhase(SharedAddress(&tile_full[at.at]), at.parity);
    return tiles[at.at];
  }
  __device__ __forceinline__ void GiveTileBack(
      const RingPosition<kTileRing>& at) {
    Arrive(SharedAddress(&tile_empty[at.at]));
  }
};

// How many tiles of keys a prefill tile reads; one, of no key at all, if it has
// none.
template <int kKeys>
__device__ __forceinline__ int NumKeyTiles(const TileRows& rows) {
  return max(1, (rows.kv_end + kKeys - 1) / kKeys - rows.kv_begin / kKeys);
}

// One warp of those that copy. With kHasFewRows a block runs half a tile, its
// first consumer group's, and no other. Each warp copies its own quarter of the
// rows and tells of it when it is there: products see shared memory only after
// a fence by the thread that wrote to it. Bulk copies, of a tiled cache, tell
// of themselves.
template <int kHeadDim, bool kIsTiled, bool kHasFewRows>
class Loader {
 public:
  using Memory = PrefillMemory<kHeadDim>;
  using Shape = PrefillShape<kHeadDim>;

  __device__ __forceinline__ Loader(const AttentionParams& p,
                                    const AttentionPlan& plan, Memory* memory)
      : p_(p),
        plan_(plan),
        memory_(memory),
        lane_(threadIdx.x % 32),
        warp_(threadIdx.x / 32 % kGroupWarps),
        group_(p.num_q_heads / p.cache.layout.num_kv_heads),
        cache_(p, plan, 0, 0),
        runs_(p, warp_ * kOwnKeys) {}

  __device__ __forceinline__ void Run() {
    if constexpr (kHasFewRows) {
      BeginOnlyTile();
    } else {
      FetchTile();
    }
#pragma unroll 1
    for (RingPosition<kTileRing> at;; at.Advance()) {
      const TileRows& rows = memory_->TakeTile(at);
      if (rows.num_rows == 0) break;
      RingPosition<kTileRing> next = at;
      next.Advance();
      LoadTile(rows, next);
      memory_->GiveTileBack(at);
    }
    Flush();
  }

 private:
  static constexpr int kOwnKeys = Shape::kKeys / kGroupWarps;
  // Of a head dim that is not tiled, nothing of it is used.
  using Runs = TileRuns<kIsTiled ? kHeadDim : kTilePart, kOwnKeys, Shape>;
  // Groups of copies begun before an earlier one is waited for.
  static constexpr int kAhead = 2;
  static_assert(kAhead + 2 <= Shape::kSlots);

  // One thread describes the next tile to all; with few rows there is none.
  __device__ __forceinline__ void FetchTile() {
    if (warp_ == 0 && lane_ == 0) {
      TileRows rows = {};
      if constexpr (!kHasFewRows) {
        const int heads = p_.cache.layout.num_kv_heads;
        const int tile = atomicAdd(&plan_.header->next_tile, 1);
        if (tile < plan_.header->num_tiles * heads) {
          rows =
              DescribeTile(p_, plan_.tiles[tile / heads], group_, tile % heads);
        }
      }
      GiveTile(rows);
    }
    __syncwarp();
  }
  __device__ __forceinline__ void GiveTile(const TileRows& rows) {
    WaitForPhase(SharedAddress(&memory_->tile_empty[fetched_.at]),
                 fetched_.parity ^ 1);
    memory_->tiles[fetched_.at] = rows;
    Arrive(SharedAddress(&memory_->tile_full[fetched_.at]));
    fetched_.Advance();
  }

  // Finds the block's half of a tile, as far as that is known while the kernel
  // before, which writes its keys and values, still runs. Decodes write nothing
  // that is read here, and have waited for what was written before them.
  __device__ __forceinline__ void BeginOnlyTile() {
    if (plan_.prefills_alone && !plan_.is_known) WaitForEarlierKernels();
    if (warp_ == 0 && lane_ == 0) GiveTile(OnlyTile());
    __syncwarp();
    PrefetchTable(memory_->TakeTile(RingPosition<kTileRing>()));
    if (!plan_.prefills_alone) return;
    WaitForEarlierKernels();
    LetNextKernelBegin();
  }
  __device__ __forceinline__ TileRows OnlyTile() const {
    const int heads = p_.cache.layout.num_kv_heads;
    const int tile = blockIdx.x / 2, half = blockIdx.x % 2;
    if (tile >= plan_.header->num_tiles * heads) return {};
    PrefillTile rows = plan_.tiles[tile / heads];
    rows.row_begin += half * kGroupRows;
    const TileRows described =
        DescribeTile(p_, rows, group_, tile % heads, kGroupRows);
    return described.num_rows > 0 ? described : TileRows{};
  }
  __device__ __forceinline__ void PrefetchTable(const TileRows& rows) const {
    constexpr int kLineEntries = 32;
    if (rows.num_rows == 0) return;
    const CacheRows cache(p_, plan_, rows.seq_slot, rows.kv_head);
    const int block = cache.BlockOf(rows.kv_begin) + lane_ * kLineEntries;
    if (block > cache.BlockOf(rows.kv_end - 1)) return;
    asm volatile("prefetch.global.L1 [%0];" ::"l"(cache.table + block));
  }

  __device__ __forceinline__ void LoadTile(
      const TileRows& rows, const RingPosition<kTileRing>& next_tile) {
    cache_ = CacheRows(p_, plan_, rows.seq_slot, rows.kv_head);
    const int count = NumKeyTiles<Shape::kKeys>(rows);
    int at = rows.kv_begin / Shape::kKeys * Shape::kKeys;
    uint32_t now = LookUp(rows, at);
    uint32_t next = LookUp(rows, at + Shape::kKeys);
    LoadSlot(rows, at, now, /*is_values=*/false);
    for (int i = 0; i < kConsumerGroups; ++i) LoadQueries(rows, i);
    query_parity_ ^= 1;
    FetchTile();
#pragma unroll 1
    for (int i = 1; i < count; ++i, at += Shape::kKeys) {
      const uint32_t later = LookUp(rows, at + 2 * Shape::kKeys);
      LoadSlot(rows, at + Shape::kKeys, next, /*is_values=*/false);
      if constexpr (kIsTiled) Flush();  // of queries
      LoadSlot(rows, at, now, /*is_values=*/true);
      now = next;
      next = later;
    }
    if constexpr (kIsTiled) Flush();
    PrefetchQueries(memory_->TakeTile(next_tile));
    LoadSlot(rows, at, now, /*is_values=*/true);
  }

  // The cache's row that this lane's key of the tile at `at` lies in or, if
  // tiled, the first line that it copies.
  __device__ __forceinline__ uint32_t LookUp(const TileRows& rows, int at) {
    if constexpr (kIsTiled) {
      return runs_.LookUp(cache_, rows, at);
    } else {
      const int position = at + warp_ * kOwnKeys + lane_;
      const bool is_valid = lane_ < kOwnKeys && position >= rows.kv_begin &&
                            position < rows.kv_end;
      return is_valid ? cache_.At(position) : kNoRow;
    }
  }

  // This warp's rows of the tile at `at`, from where LookUp() said.
  __device__ __forceinline__ void LoadSlot(const TileRows& rows, int at,
                                           uint32_t own, bool is_values) {
    const uint32_t offset = is_values ? cache_.to_values : 0;
    uint8_t* const to = memory_->slots[slots_.at];
    const uint32_t full = SharedAddress(&memory_->full[slots_.at]);
    Acquire(SharedAddress(&memory_->empty[slots_.at]), slots_.parity ^ 1);
    if constexpr (kIsTiled) {
      runs_.Copy(rows, at, own, offset * Runs::kParts, is_values, to, full);
    } else {
      CopyRows<Shape::kKeys, Shape::kKeys, kHeadDim * 2>(
          SharedAddress(to), p_.cache.base,
          own == kNoRow ? kNoRow : own + offset);
      Commit(full);
    }
    slots_.Advance();
  }

  // Where a query row lies, in steps of 16 bytes.
  __device__ __forceinline__ uint32_t QueryRow(const TileRows& rows,
                                               int row) const {
    if (row >= rows.num_rows) return kNoRow;
    const int in_seq = rows.row_begin + row;
    return ((rows.query_start + in_seq / group_) * p_.q_stride +
            int64_t{rows.kv_head * group_ + in_seq % group_} * kHeadDim) /
           8;
  }

  // Those of one group of consumers, which may be done before the other is.
  __device__ __forceinline__ void LoadQueries(const TileRows& rows, int group) {
    constexpr int kRows = kGroupRows / kGroupWarps;
    const uint32_t own =
        lane_ < kRows
            ? QueryRow(rows, group * kGroupRows + warp_ * kRows + lane_)
            : kNoRow;
    Acquire(SharedAddress(&memory_->queries_empty[group]), query_parity_ ^ 1);
    CopyRows<kGroupRows, kPrefillRows, 16>(
        SharedAddress(memory_->queries) +
            group * kGroupRows * Swizzle<Shape::kPart>::kRowBytes,
        p_.q, own);
    Commit(SharedAddress(&memory_->queries_full[group]));
  }

  // Into the L2 cache: they are copied at the last moment.
  __device__ __forceinline__ void PrefetchQueries(const TileRows& rows) const {
    const uint32_t own = QueryRow(rows, warp_ * 32 + lane_);
    if (own == kNoRow) return;
    const uint8_t* row = static_cast<const uint8_t*>(p_.q) + uint64_t{own} * 16;
#pragma unroll
    for (int at = 0; at < kHeadDim * 2; at += 128) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(row + at));
    }
  }

  // Copies this warp's quarter of kRows rows into a matrix of kPartRows. Lane i
  // knows where the i-th comes from, in steps of kStep bytes from `base`.
  template <int kRows, int kPartRows, int kStep>
  __device__ __forceinline__ void CopyRows(uint32_t to, const void* base,
                                           uint32_t own) {
    constexpr int kOwnRows = kRows / kGroupWarps;
    if (__all_sync(~0u, lane_ >= kOwnRows || own != kNoRow)) {
      CopyRows<kRows, kPartRows, kStep, true>(to, base, own);
    } else {
      CopyRows<kRows, kPartRows, kStep, false>(to, base, own);
    }
  }

  // Lanes side by side copy a part of a row, of a few rows at once: what
  // differs from one copy to the next is known when this is compiled, but for
  // the row.
  template <int kRows, int kPartRows, int kStep, bool kAllValid>
  __device__ __forceinline__ void CopyRows(uint32_t to, const void* base,
                                           uint32_t own) {
    constexpr int kOwnRows = kRows / kGroupWarps;
    constexpr int kRowUnits = kHeadDim / 8;  // 16 bytes each
    constexpr int kUnits = Shape::kPart / 8;
    constexpr int kAtOnce = 32 / kUnits;  // rows
    using Layout = Swizzle<Shape::kPart>;
    const int row = lane_ / kUnits, unit = lane_ % kUnits;
    to += Layout::Offset(warp_ * kOwnRows + row, unit);
    const uint8_t* from = static_cast<const uint8_t*>(base) + unit * 16;
#pragma unroll
    for (int i = 0; i < kOwnRows / kAtOnce; ++i) {
      const uint32_t source = __shfl_sync(~0u, own, i * kAtOnce + row);
      const bool is_valid = kAllValid || source != kNoRow;
      const uint8_t* at = from + (is_valid ? uint64_t{source} * kStep : 0);
      const uint32_t dst =
          (to ^ Layout::Toggle(i * kAtOnce)) + i * kAtOnce * Layout::kRowBytes;
#pragma unroll
      for (int part = 0; part * kUnits < kRowUnits; ++part) {
        if ((part + 1) * kUnits > kRowUnits && unit >= kRowUnits % kUnits) {
          continue;
        }
        CopyAsync(dst + part * kPartRows * Layout::kRowBytes,
                  at + part * Layout::kRowBytes, is_valid);
      }
    }
  }

  // Waits until the phase is over; nobody must wait for what is not told yet.
  __device__ __forceinline__ void Acquire(uint32_t barrier, int parity) {
    if (__all_sync(~0u, TestPhase(barrier, parity))) return;
    Flush();
    WaitForPhase(barrier, parity);
  }

  // Ends a group of copies, of whose arrival `barrier` tells in a while.
  __device__ __forceinline__ void Commit(uint32_t barrier) {
    CommitCopies();
    WaitForCopies<kAhead>();
    Tell(untold_[0]);
#pragma unroll
    for (int i = 1; i < kAhead; ++i) untold_[i - 1] = untold_[i];
    untold_[kAhead - 1] = barrier;
  }

  __device__ __forceinline__ void Flush() {
    WaitForCopies<0>();
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      Tell(untold_[i]);
      untold_[i] = 0;
    }
  }

  __device__ __forceinline__ void Tell(uint32_t barrier) {
    if (barrier == 0) return;
    FenceAsyncProxy();
    __syncwarp();
    if (lane_ == 0) Arrive(barrier);
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  Memory* memory_;
  const int lane_;
  const int warp_;
  const int group_;
  CacheRows cache_;
  const Runs runs_;
  RingPosition<kTileRing> fetched_;
  RingPosition<Shape::kSlots> slots_;
  int query_parity_ = 0;
  uint32_t untold_[kAhead] = {};  // barriers of groups on their way; 0: none
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_LOADER_CUH_
