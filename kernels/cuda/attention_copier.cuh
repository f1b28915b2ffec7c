// SPDX-License-Identifier: Apache-2.0
//
// The warp of a decode's pair that copies, and what it shares with the one that
// computes.
#ifndef KERNELS_CUDA_ATTENTION_COPIER_CUH_
#define KERNELS_CUDA_ATTENTION_COPIER_CUH_

#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {

constexpr int kUnitRing = 8;  // units begun by the copier, not yet finished

template <int kHeadDim, int kSlots>
struct PairMemory {
  static constexpr int kRowBytes = (kHeadDim + kRowPadding) * 2;
  static constexpr int kSlotBytes = kChunk * kRowBytes;
  alignas(16) uint8_t slots[kSlots][kSlotBytes];
  AttentionUnit units[kUnitRing];
  uint64_t full[kSlots];      // the copies of a chunk have arrived
  uint64_t empty[kSlots];     // and have been read
  uint64_t ready[kUnitRing];  // a unit is known
  uint64_t done[kUnitRing];   // and was finished

  // By the warp that copies.
  __device__ void Init(int lane) {
    if (lane < kSlots) {
      InitBarrier(SharedAddress(&full[lane]), 32);
      InitBarrier(SharedAddress(&empty[lane]), 32);
    }
    if (lane < kUnitRing) {
      InitBarrier(SharedAddress(&ready[lane]), 32);
      InitBarrier(SharedAddress(&done[lane]), 32);
    }
  }
};

// The half of a pair that copies.
template <int kHeadDim, int kSlots>
class Copier {
 public:
  using Memory = PairMemory<kHeadDim, kSlots>;

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
    FetchUnit();
    while (BeginUnit()) {
#pragma unroll 1
      for (int at = begin_ / kTile * kTile;;) {
        const uint32_t rows[2] = {next_rows_[0], next_rows_[1]};
        const bool has_second = at + kChunk < end_;
        const bool is_last = at + kTile >= end_;
        if (is_last) {
          ReserveUnit();
        } else {
          LookUpRows(at + kTile);
        }
#pragma unroll 1
        for (int half = 0; half < 4; half += has_second ? 1 : 2) {
          CopyChunk(half & 1 ? rows[1] : rows[0],
                    half > 1 ? cache_.to_values : 0);
        }
        if (is_last) break;
        at += kTile;
      }
      FetchUnit();
    }
    WaitForCopies<0>();
  }

 private:
  // As late as hides it: a unit reserved is one that others cannot begin, and
  // when few are left they would wait for this pair.
  __device__ __forceinline__ void ReserveUnit() {
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
    LookUpRows(begin_ / kTile * kTile);
    return true;
  }

  // Looks up where the positions of a tile lie; used a tile later.
  __device__ __forceinline__ void LookUpRows(int at) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int position = at + i * kChunk + lane_;
      const bool is_valid = position >= begin_ && position < end_;
      next_rows_[i] = is_valid ? cache_.At(position) : kNoRow;
    }
  }

  // Lane i knows where the chunk's row i comes from.
  __device__ __forceinline__ void CopyChunk(uint32_t own, uint32_t offset) {
    const uint32_t to = SharedAddress(memory_->slots[slots_.at]);
    WaitForPhase(SharedAddress(&memory_->empty[slots_.at]), slots_.parity ^ 1);
    if (__all_sync(~0u, own != kNoRow)) {
      CopyRows<true>(to, own, offset);
    } else {
      CopyRows<false>(to, own, offset);
    }
    ArriveAfterCopies(SharedAddress(&memory_->full[slots_.at]));
    slots_.Advance();
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
    to += row * Memory::kRowBytes + unit * 16;
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
        CopyAsyncOnce(to + i * kAtOnce * Memory::kRowBytes + part * kUnits * 16,
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
  const uint64_t policy_ = ReadOncePolicy();
  RingPosition<kUnitRing> units_;
  RingPosition<kSlots> slots_;
  uint32_t next_rows_[2];
};

}  // namespace quire::attention

#endif  // KERNELS_CUDA_ATTENTION_COPIER_CUH_
