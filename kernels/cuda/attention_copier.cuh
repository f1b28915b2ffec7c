// SPDX-License-Identifier: Apache-2.0
//
// The warp of a decode's pair that copies, and what it shares with the one that
// computes.
#ifndef KERNELS_CUDA_ATTENTION_COPIER_CUH_
#define KERNELS_CUDA_ATTENTION_COPIER_CUH_

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::attention {

constexpr int kUnitRing = 8;  // units begun by the copier, not yet finished

template <int kHeadDim, int kSlots, bool kIsTiled>
struct PairMemory {
  using Rows =
      std::conditional_t<kIsTiled, TiledRows<kHeadDim>, PaddedRows<kHeadDim>>;
  alignas(kIsTiled ? 128 : 16) uint8_t slots[kSlots][Rows::kChunkBytes];
  AttentionUnit units[kUnitRing];
  uint64_t full[kSlots];      // the copies of a chunk have arrived
  uint64_t empty[kSlots];     // and have been read
  uint64_t ready[kUnitRing];  // a unit is known
  uint64_t done[kUnitRing];   // and was finished

  // By the warp that copies.
  __device__ void Init(int lane) {
    if (lane < kSlots) {
      InitBarrier(SharedAddress(&full[lane]), kIsTiled ? 1 : 32);
      InitBarrier(SharedAddress(&empty[lane]), 32);
    }
    if (lane < kUnitRing) {
      InitBarrier(SharedAddress(&ready[lane]), 32);
      InitBarrier(SharedAddress(&done[lane]), 32);
    }
    if constexpr (kIsTiled) FenceAsyncProxy();
  }
};

// The half of a pair that copies.
template <int kHeadDim, int kSlots, bool kIsTiled>
class Copier {
 public:
  using Memory = PairMemory<kHeadDim, kSlots, kIsTiled>;
  using Rows = typename Memory::Rows;

  __device__ __forceinline__ Copier(const AttentionParams& p,
                                    const AttentionPlan& plan, Memory* memory,
                                    int lane, int first_unit)
      : p_(p),
        plan_(plan),
        memory_(memory),
        lane_(lane),
        cache_(p, plan, 0, 0),
        next_unit_(first_unit) {}

  __device__ __forceinline__ void Run() {
    if (!plan_.reads_early) WaitOnce();
    FetchUnit();
    while (BeginUnit()) {
#pragma unroll 1
      for (int at = begin_ / kTile * kTile;; at += kTile) {
        const uint32_t rows[2] = {RowAt(at), RowAt(at + kChunk)};
        const bool has_second = at + kChunk < end_;
        const bool is_last = at + kTile >= end_;
        if (at + kTile > first_new_) WaitOnce();
        if (is_last) ReserveUnit();
#pragma unroll 1
        for (int half = 0; half < 4; half += has_second ? 1 : 2) {
          CopyChunk(half & 1 ? rows[1] : rows[0],
                    half > 1 ? cache_.to_values : 0, at + (half & 1) * kChunk);
        }
        if (is_last) break;
      }
      FetchUnit();
    }
    WaitOnce();  // that it has left the plan is told after the layer before
    if constexpr (!kIsTiled) WaitForCopies<0>();
  }

 private:
  // Before the first access to what the kernels before this one write. Under a
  // plan that reads early, that is neither the plan nor the tables nor keys and
  // values of tokens that are not new: the layer that read the plan before let
  // nothing begin before all of them were there. So a pair's ring fills while
  // the kernel before, which writes the new tokens', still runs.
  __device__ __forceinline__ void WaitOnce() {
    if (has_waited_) return;
    WaitForEarlierKernels();
    has_waited_ = true;
  }

  // As late as hides it: a unit reserved is one that others cannot begin, and
  // when few are left they would wait for this pair.
  __device__ __forceinline__ void ReserveUnit() {
    WaitOnce();
    if (lane_ == 0) next_unit_ = atomicAdd(&plan_.header->next_unit, 1);
  }

  // Fetches this lane's word of the reserved unit.
  __device__ __forceinline__ void FetchUnit() {
    const int unit = __shfl_sync(~0u, next_unit_, 0);
    const int heads = p_.cache.layout.num_kv_heads;
    const int entry = unit / heads;
    word_ = -1;
    if (lane_ < 16) {
      // Does not wait to know how many units there are.
      const AttentionUnit* from =
          plan_.units + min(entry, plan_.unit_capacity - 1);
      const int32_t word =
          __ldcg(reinterpret_cast<const int32_t*>(from) + lane_);
      if (entry < __ldcg(&plan_.header->num_units)) word_ = word;
      if (lane_ == 14) word_ = unit - entry * heads;  // kv_head
    }
  }

  // Hands the fetched unit over; false if there was none.
  __device__ __forceinline__ bool BeginUnit() {
    AttentionUnit* unit = &memory_->units[units_.at];
    WaitForPhase(SharedAddress(&memory_->done[units_.at]), units_.parity ^ 1);
    if (lane_ < 16) reinterpret_cast<int32_t*>(unit)[lane_] = word_;
    Arrive(SharedAddress(&memory_->ready[units_.at]));
    __syncwarp();
    units_.Advance();
    if (unit->seq_slot < 0) return false;
    cache_ = CacheRows(p_, plan_, unit->seq_slot, unit->kv_head);
    begin_ = unit->kv_begin;
    end_ = unit->kv_end;
    first_new_ = unit->position;
    last_block_ = end_ > begin_ ? cache_.BlockOf(end_ - 1) : -1;
    window_ = cache_.BlockOf(begin_);
    blocks_[0] = LookUp(window_);
    blocks_[1] = LookUp(window_ + 32);
    return true;
  }

  // This lane's of 32 blocks: the row that it begins with. They are looked up
  // long before they are needed.
  __device__ __forceinline__ uint32_t LookUp(int first) {
    const int block = first + lane_;
    return block <= last_block_ ? cache_.FirstOf(block) : kNoRow;
  }

  // For a chunk's position of this lane: its row or, if tiled, the one that its
  // block begins with. Chunks come in order.
  __device__ __forceinline__ uint32_t RowAt(int chunk) {
    const int position = chunk + lane_;
    const bool is_valid = position >= begin_ && position < end_;
    const int block = cache_.BlockOf(max(begin_, min(position, end_ - 1)));
    if (__shfl_sync(~0u, block, 0) >= window_ + 32) {
      window_ += 32;
      blocks_[0] = blocks_[1];
      blocks_[1] = LookUp(window_ + 32);
    }
    const int at = block - window_;
    const uint32_t low = __shfl_sync(~0u, blocks_[0], at & 31);
    const uint32_t high = __shfl_sync(~0u, blocks_[1], at & 31);
    if (!is_valid) return kNoRow;
    const uint32_t row = at < 32 ? low : high;
    if constexpr (kIsTiled) return row;
    return row + (position - block * cache_.block_size) * cache_.rows_per_token;
  }

  // Lane i knows where the chunk's row i comes from, or its block's first.
  __device__ __forceinline__ void CopyChunk(uint32_t own, uint32_t offset,
                                            int at) {
    const uint32_t to = SharedAddress(memory_->slots[slots_.at]);
    const uint32_t full = SharedAddress(&memory_->full[slots_.at]);
    WaitForPhase(SharedAddress(&memory_->empty[slots_.at]), slots_.parity ^ 1);
    if constexpr (kIsTiled) {
      CopyRuns(to, own, offset, at, full);
    } else if (__all_sync(~0u, own != kNoRow)) {
      CopyRows<true>(to, own, offset);
      ArriveAfterCopies(full);
    } else {
      CopyRows<false>(to, own, offset);
      ArriveAfterCopies(full);
    }
    slots_.Advance();
  }

  // The lane of each block's first row in the chunk copies all of the block's,
  // part by part. Rows outside the unit stay as they are.
  __device__ __forceinline__ void CopyRuns(uint32_t to, uint32_t own,
                                           uint32_t offset, int at,
                                           uint32_t full) {
    const uint32_t valid = __ballot_sync(~0u, own != kNoRow);
    const int position = at + lane_;
    const int token = position - cache_.BlockOf(position) * cache_.block_size;
    const bool begins =
        own != kNoRow && (token == 0 || lane_ == __ffs(valid) - 1);
    const uint32_t later =
        __ballot_sync(~0u, begins) & (lane_ == 31 ? 0 : ~0u << (lane_ + 1));
    const int end = later != 0 ? __ffs(later) - 1 : 32 - __clz(valid);
    if (lane_ == 0) ArriveExpecting(full, __popc(valid) * kHeadDim * 2);
    __syncwarp();
    if (!begins) return;
    const uint8_t* from = static_cast<const uint8_t*>(p_.cache.base) +
                          uint64_t{own + offset} * (kHeadDim * 2) +
                          token * kTileRowBytes;
#pragma unroll
    for (int part = 0; part < Rows::kParts; ++part) {
      CopyBulk(to + part * Rows::kPartBytes + lane_ * kTileRowBytes,
               from + int64_t{part} * cache_.block_size * kTileRowBytes,
               (end - lane_) * kTileRowBytes, full, policy_);
    }
  }

  // Lanes side by side copy a part of a row, of a few rows at once: what
  // differs from one copy to the next is known when this is compiled, but for
  // the row.
  template <bool kAllValid>
  __device__ __forceinline__ void CopyRows(uint32_t to, uint32_t own,
                                           uint32_t offset) {
    constexpr int kRowUnits = kHeadDim / 8;  // 16 bytes each
    constexpr int kUnits = kRowUnits % 8 == 0 ? 8 : 4;
    constexpr int kAtOnce = 32 / kUnits;  // rows
    const int row = lane_ / kUnits, unit = lane_ % kUnits;
    to += row * Rows::kStride + unit * 16;
    const uint8_t* from =
        static_cast<const uint8_t*>(p_.cache.base) + unit * 16;
#pragma unroll
    for (int i = 0; i < kChunk / kAtOnce; ++i) {
      const uint32_t source = __shfl_sync(~0u, own, i * kAtOnce + row);
      const bool is_valid = kAllValid || source != kNoRow;
      const uint8_t* at =
          from + (is_valid ? uint64_t{source + offset} * (kHeadDim * 2) : 0);
#pragma unroll
      for (int part = 0; part * kUnits < kRowUnits; ++part) {
        if ((part + 1) * kUnits > kRowUnits && unit >= kRowUnits % kUnits) {
          continue;
        }
        CopyAsyncOnce(to + i * kAtOnce * Rows::kStride + part * kUnits * 16,
                      at + part * kUnits * 16, is_valid, policy_);
      }
    }
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  Memory* memory_;
  const int lane_;
  CacheRows cache_;
  int next_unit_;  // lane 0's counts
  int32_t word_ = -1;
  int begin_ = 0, end_ = 0;
  int first_new_ = 0;  // position
  int window_ = 0, last_block_ = 0;
  bool has_waited_ = false;
  const uint64_t policy_ = ReadOncePolicy();
  RingPosition<kUnitRing> units_;
  RingPosition<kSlots> slots_;
  uint32_t blocks_[2];  // of 64 blocks from window_ on
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_COPIER_CUH_
