// SPDX-License-Identifier: Apache-2.0
//
// Decodes. Warps work in pairs: one copies, one computes. The copier fetches
// units (attention_plan.h) until none is left and streams their keys and values
// through a ring of chunks in shared memory that only the pair uses; it runs
// ahead across units, so that most of the ring is always in flight, and begins
// while the kernel before still runs. What several pairs have parts of, those
// that have run out of units combine (attention_combine.cuh).
#include <cstdint>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_combine.cuh"
#include "kernels/cuda/attention_copier.cuh"
#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::attention {
namespace {

static_assert(kAttentionEmptyByte == left::kEmptyByte);

// A warp that computes.
template <int kHeadDim, int kSlots, int kRowTiles, bool kIsTiled>
class Consumer {
 public:
  using Memory = PairMemory<kHeadDim, kSlots, kIsTiled>;
  using Rows = typename Memory::Rows;
  using Stored = StoredState<kHeadDim, kRowTiles>;
  static constexpr bool kFoldInRegisters = kHeadDim <= 128 && kRowTiles == 1;

  __device__ __forceinline__ Consumer(const AttentionParams& p,
                                      const AttentionPlan& plan, Memory* memory,
                                      int lane, int pair)
      : p_(p),
        plan_(plan),
        memory_(memory),
        lane_(lane),
        pair_(pair),
        group_(p.num_q_heads / p.cache.layout.num_kv_heads),
        scale_(p.scale * kLog2E) {}

  __device__ __forceinline__ void Run() {
    UnitAt at;
    TakeUnit(at);
    while (memory_->units[at.at].seq_slot >= 0) {
      UnitAt next = at;
      next.Advance();
      RunUnit(memory_->units[at.at], next);
      Arrive(SharedAddress(&memory_->done[at.at]));
      at = next;
    }
  }

 private:
  using UnitAt = RingPosition<kUnitRing>;

  __device__ __forceinline__ float* Scratch(int level) const {
    return plan_.warp_states +
           (int64_t{pair_} * 2 + level) * plan_.state_floats;
  }

  // Waits for a unit, and begins to load its queries.
  __device__ __forceinline__ void TakeUnit(const UnitAt& at) {
    WaitForPhase(SharedAddress(&memory_->ready[at.at]), at.parity);
    const AttentionUnit& unit = memory_->units[at.at];
    if (unit.seq_slot < 0) return;
    queries_.Load(p_, group_, unit.query_start, unit.position, unit.kv_head,
                  unit.row_begin, unit.num_rows, lane_);
  }

  // The next chunk, once it has arrived.
  __device__ __forceinline__ uint32_t Wait() {
    WaitForPhase(SharedAddress(&memory_->full[slots_.at]), slots_.parity);
    return SharedAddress(memory_->slots[slots_.at]);
  }
  // And may be overwritten. Bulk copies heed reads by instructions no more than
  // a fence makes them: to arrive does not wait until what was begun is read.
  __device__ __forceinline__ void Release() {
    if constexpr (kIsTiled) FenceAsyncProxy();
    Arrive(SharedAddress(&memory_->empty[slots_.at]));
    slots_.Advance();
  }

  __device__ __forceinline__ void RunTile(const AttentionUnit& unit, int at) {
    const bool has_second = at + kChunk < unit.kv_end;
    float s[kTile / 16][kRowTiles][4] = {};
    ScoreChunk<Rows, kHeadDim, kRowTiles>(queries_.q, Wait(), lane_, s);
    Release();
    if (has_second) {
      ScoreChunk<Rows, kHeadDim, kRowTiles>(queries_.q, Wait(), lane_,
                                            s + kChunk / 16);
      Release();
    }
    if (at < queries_.whole_begin || at + kTile > queries_.whole_end) {
      MaskTile(at, lane_, queries_, s);
    }
    uint32_t weights[kTile / 16][kRowTiles][2];
    SoftmaxTile(s, scale_, &state_, weights);
    AccumulateChunk<Rows>(weights, WaitForValues(unit, at), lane_, &state_);
    Release();
    if (has_second) {
      AccumulateChunk<Rows>(weights + kChunk / 16,
                            WaitForValues(unit, at + kChunk), lane_, &state_);
      Release();
    }
  }

  // Bulk copies leave rows without a position as they were. What such values
  // are multiplied by is zero, which they must not turn into a NaN.
  __device__ __forceinline__ uint32_t WaitForValues(const AttentionUnit& unit,
                                                    int at) {
    const uint32_t values = Wait();
    if constexpr (kIsTiled) {
      if (at < unit.kv_begin || at + kChunk > unit.kv_end) {
        const int position = at + lane_;
        if (position < unit.kv_begin || position >= unit.kv_end) {
          ClearRow(memory_->slots[slots_.at] + lane_ * kTileRowBytes);
        }
        FenceAsyncProxy();
        __syncwarp();
      }
    }
    return values;
  }
  __device__ __forceinline__ void ClearRow(uint8_t* row) {
#pragma unroll
    for (int part = 0; part < kHeadDim * 2 / kTileRowBytes; ++part) {
#pragma unroll
      for (int at = 0; at < kTileRowBytes; at += 16) {
        *reinterpret_cast<uint4*>(row + part * kChunk * kTileRowBytes + at) =
            make_uint4(0, 0, 0, 0);
      }
    }
  }

  // The queries of the unit at `next` are loaded while this one's results are
  // put away.
  __device__ __forceinline__ void RunUnit(const AttentionUnit& unit,
                                          const UnitAt& next) {
    int at = unit.kv_begin / kTile * kTile;
    bool is_first_node = true;
#pragma unroll 1
    for (int split = unit.split_begin; split < unit.split_end; ++split) {
      const int end = min(unit.kv_end, (split + 1) * kSplit);
      state_.Reset();
#pragma unroll 1
      do {  // once for rows without any key, too
        RunTile(unit, at);
        at += kTile;
      } while (at < end);
      if (split + 1 == unit.split_end) TakeUnit(next);
      FinishSplit(unit, split, &is_first_node);
    }
  }

  // Folds the split's state into the node's; leaves that in state_ at its end.
  __device__ __forceinline__ void Fold(bool begins, bool ends, int num_rows) {
    if constexpr (kFoldInRegisters) {
      if (begins) {
        folded_ = state_;
      } else {
        FoldInto(state_, scale_, &folded_);
      }
      if (ends) state_ = folded_;
    } else {
      Stored{Scratch(0)}.Add(&state_, scale_, begins, lane_, num_rows);
    }
  }

  __device__ __forceinline__ void FinishSplit(const AttentionUnit& unit,
                                              int split, bool* is_first_node) {
    if (unit.kind == kLeaf) {
      LeaveState(state_, lane_, unit.num_rows,
                 SplitState(p_, plan_, unit, split));
      return;
    }
    const int node = split / kNodeSplits;
    const bool begins =
        split == unit.split_begin || split == node * kNodeSplits;
    const bool ends =
        split + 1 == unit.split_end || split + 1 == (node + 1) * kNodeSplits;
    if (!begins || !ends) {
      Fold(begins, ends, unit.num_rows);
      if (!ends) return;
    }
    const int first_node = unit.rows_split_begin / kNodeSplits;
    const bool is_only = (unit.rows_split_end - 1) / kNodeSplits == first_node;
    if (is_only) {
      Write(unit);
    } else if (unit.kind == kFolded) {
      LeaveState(state_, lane_, unit.num_rows,
                 NodeState(p_, plan_, unit, node));
    } else {
      Stored{Scratch(1)}.Add(&state_, scale_, *is_first_node, lane_,
                             unit.num_rows);
      *is_first_node = false;
      if (split + 1 == unit.split_end) Write(unit);
    }
  }

  __device__ __forceinline__ void Write(const AttentionUnit& unit) {
    WriteRows(p_, state_, unit.query_start, unit.row_begin, unit.num_rows,
              unit.kv_head, lane_);
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  Memory* memory_;
  const int lane_;
  const int pair_;
  const int group_;
  const float scale_;
  RingPosition<kSlots> slots_;
  QueryRows<kHeadDim, kRowTiles> queries_;
  RowState<kHeadDim, kRowTiles> state_;
  RowState<kFoldInRegisters ? kHeadDim : 16, kRowTiles> folded_;
};

// Shared memory that thread blocks may have: of Hopper, and of devices before
// it. Code for either is compiled with the slots that fit there.
constexpr int kHopperShared = 227 * 1024;
constexpr int kAmpereShared = 163 * 1024;
constexpr int kPairs = 4;
constexpr int kThreads = kPairs * 64;

// Chunks of a pair's ring: more are no faster.
template <int kHeadDim, int kShared>
constexpr int kSlots = (kShared < kHopperShared ? 4 : 6) /
                       (kHeadDim > 128 ? 2 : 1);
template <int kHeadDim, int kShared, bool kIsTiled>
struct BlockMemory {
  PairMemory<kHeadDim, kSlots<kHeadDim, kShared>, kIsTiled> pairs[kPairs];
  typename LongCombiner<kHeadDim, kThreads>::Memory long_rows;
};

// For the last pair to have all its units: makes the plan ready for the next
// layer.
__device__ __forceinline__ void LeaveUnits(const AttentionPlan& plan,
                                           int num_pairs) {
  __threadfence();
  if (atomicAdd(&plan.header->warps_done, 1) == num_pairs - 1) {
    plan.header->warps_done = 0;
    plan.header->next_unit = num_pairs;
  }
}

template <int kHeadDim, int kShared, int kRowTiles, bool kIsTiled>
__global__ void __launch_bounds__(kThreads, 1)
    DecodeKernel(const __grid_constant__ AttentionParams p,
                 const __grid_constant__ AttentionPlan plan) {
#if __CUDA_ARCH__ >= 900
  constexpr int kDeviceShared = kHopperShared;
#else
  constexpr int kDeviceShared = kAmpereShared;
#endif
  if constexpr (kShared == kDeviceShared) {
    extern __shared__ __align__(128) uint8_t shared[];
    constexpr int kCount = kSlots<kHeadDim, kShared>;
    const int lane = threadIdx.x % 32;
    const int pair_in_block = threadIdx.x / 32 % kPairs;
    const bool is_copier = threadIdx.x / 32 >= kPairs;
    auto* memory =
        reinterpret_cast<BlockMemory<kHeadDim, kShared, kIsTiled>*>(shared);
    auto* own = &memory->pairs[pair_in_block];
    if (is_copier) own->Init(lane);
    __syncthreads();
    // Neighbouring units go to different multiprocessors.
    const int pair = pair_in_block * gridDim.x + blockIdx.x;
    const int num_pairs = gridDim.x * kPairs;
    if (is_copier) {
      Copier<kHeadDim, kCount, kIsTiled>(p, plan, own, lane, pair).Run();
      if (lane == 0) LeaveUnits(plan, num_pairs);
    } else {
      WaitForEarlierKernels();
      LetNextKernelBegin();
      Consumer<kHeadDim, kCount, kRowTiles, kIsTiled>(p, plan, own, lane, pair)
          .Run();
    }
    Combiner<kHeadDim, kThreads>(p, plan).Run();
    LongCombiner<kHeadDim, kThreads>(p, plan, &memory->long_rows).Run();
  }
}

template <int kHeadDim, int kShared, int kRowTiles, bool kIsTiled>
cudaError_t LaunchWith(const AttentionParams& params, const AttentionPlan& plan,
                       int32_t num_sms, cudaStream_t stream) {
  constexpr int kBytes = sizeof(BlockMemory<kHeadDim, kShared, kIsTiled>);
  static_assert(kBytes <= kShared);
  const auto kernel = DecodeKernel<kHeadDim, kShared, kRowTiles, kIsTiled>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  return LaunchOverlapped(kernel, num_sms, kThreads, kBytes, stream, params,
                          plan);
}

template <int kHeadDim, int kShared, bool kIsTiled>
cudaError_t LaunchRows(const AttentionParams& params, const AttentionPlan& plan,
                       int32_t num_sms, cudaStream_t stream) {
  return plan.decode_rows > kTileRows
             ? LaunchWith<kHeadDim, kShared, 2, kIsTiled>(params, plan, num_sms,
                                                          stream)
             : LaunchWith<kHeadDim, kShared, 1, kIsTiled>(params, plan, num_sms,
                                                          stream);
}

template <int kHeadDim>
cudaError_t LaunchFor(const AttentionParams& params, const AttentionPlan& plan,
                      int32_t num_sms, cudaStream_t stream) {
  int device = 0, major = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error != cudaSuccess) return error;
  if (major < 9) {
    return LaunchRows<kHeadDim, kAmpereShared, false>(params, plan, num_sms,
                                                      stream);
  }
  if constexpr (kHeadDim % 64 == 0) {
    if (params.cache.layout.order == KvOrder::kTiles) {
      return LaunchRows<kHeadDim, kHopperShared, true>(params, plan, num_sms,
                                                       stream);
    }
  }
  return LaunchRows<kHeadDim, kHopperShared, false>(params, plan, num_sms,
                                                    stream);
}

}  // namespace

int32_t DecodePairsPerSm() { return kPairs; }

cudaError_t LaunchDecode(const AttentionParams& params,
                         const AttentionPlan& plan, int32_t num_sms,
                         cudaStream_t stream) {
  return ForHeadDim(params.cache.layout.head_dim, [&](auto head_dim) {
    return LaunchFor<head_dim()>(params, plan, num_sms, stream);
  });
}

}  // namespace quire::attention
