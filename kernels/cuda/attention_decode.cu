// SPDX-License-Identifier: Apache-2.0
//
// Decodes. Warps work in pairs: one copies, one computes. The copier fetches
// units (attention_plan.h) until none is left and streams their keys and values
// through a ring of chunks in shared memory that only the pair uses; it runs
// ahead across units, so that most of the ring is always in flight. No pair
// waits for another. Whoever completes the last split of some rows folds their
// states.
#include <cstdint>

#include "kernels/cuda/attention_copier.cuh"
#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {
namespace {

// The half that computes.
template <int kHeadDim, int kSlots, bool kHigh>
class Consumer {
 public:
  using Memory = PairMemory<kHeadDim, kSlots>;

  __device__ __forceinline__ Consumer(const AttentionParams& p,
                                      const AttentionPlan& plan, Memory* memory,
                                      int lane, int warp)
      : p_(p),
        plan_(plan),
        memory_(memory),
        lane_(lane),
        warp_(warp),
        group_(p.num_q_heads / p.cache.layout.num_kv_heads),
        scale_(p.scale * kLog2E) {}

  __device__ __forceinline__ void Run() {
#pragma unroll 1
    for (RingPosition<kUnitRing> at;; at.Advance()) {
      WaitForPhase(SharedAddress(&memory_->ready[at.at]), at.parity);
      const AttentionUnit& unit = memory_->units[at.at];
      if (unit.seq_slot < 0) break;
      RunUnit(unit);
    }
  }

 private:
  __device__ __forceinline__ float* Scratch(int level) const {
    return plan_.warp_states +
           (int64_t{warp_} * 2 + level) * plan_.state_floats;
  }
  __device__ __forceinline__ int64_t Slot(int slot, int kv_head) const {
    return int64_t{slot} * p_.cache.layout.num_kv_heads + kv_head;
  }
  __device__ __forceinline__ float* LeafState(int64_t slot) const {
    return plan_.leaf_states + slot * plan_.state_floats;
  }
  __device__ __forceinline__ float* NodeState(int64_t slot) const {
    return plan_.node_states + slot * plan_.state_floats;
  }

  __device__ __forceinline__ void LoadQueries(const AttentionUnit& unit) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = lane_ / 4 + 8 * i;
      const bool is_valid = row < unit.num_rows && (kHigh || i == 0);
      const int in_seq = unit.row_begin + (is_valid ? row : 0);
      const __nv_bfloat16* from =
          static_cast<const __nv_bfloat16*>(p_.q) +
          (unit.query_start + in_seq / group_) * p_.q_stride +
          int64_t{unit.kv_head * group_ + in_seq % group_} * kHeadDim +
          (lane_ & 3) * 2;
#pragma unroll
      for (int k = 0; k < kHeadDim / 16; ++k) {
        const uint32_t* at = reinterpret_cast<const uint32_t*>(from + k * 16);
        q_[k][i] = is_valid ? at[0] : 0;
        q_[k][i + 2] = is_valid ? at[4] : 0;
      }
      SetRange(p_, in_seq, group_, unit.position, i, &ranges_);
    }
  }

  // The next chunk, once it has arrived.
  __device__ __forceinline__ uint32_t Wait() {
    WaitForPhase(SharedAddress(&memory_->full[slots_.at]), slots_.parity);
    return SharedAddress(memory_->slots[slots_.at]);
  }
  // And may be overwritten.
  __device__ __forceinline__ void Release() {
    __syncwarp();
    if (lane_ == 0) Arrive(SharedAddress(&memory_->empty[slots_.at]));
    slots_.Advance();
  }

  __device__ __forceinline__ void RunTile(const AttentionUnit& unit, int at) {
    const bool has_second = at + kChunk < unit.kv_end;
    float s[8][4];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[j][i] = 0.0f;
    }
    ScoreChunk<kHeadDim>(q_, Wait(), lane_, s);
    Release();
    if (has_second) {
      ScoreChunk<kHeadDim>(q_, Wait(), lane_, s + 4);
      Release();
    }
    const bool is_whole = at >= max(ranges_.begin[0], ranges_.begin[1]) &&
                          at + kTile <= min(ranges_.end[0], ranges_.end[1]);
    if (!__all_sync(~0u, is_whole)) MaskTile(at, lane_, ranges_, s);
    uint32_t weights[4][4];
    SoftmaxTile<kHeadDim, kHigh>(s, scale_, &state_, weights);
    AccumulateChunk<kHeadDim>(weights, Wait(), lane_, state_.o);
    Release();
    if (has_second) {
      AccumulateChunk<kHeadDim>(weights + 2, Wait(), lane_, state_.o);
      Release();
    }
  }

  __device__ __forceinline__ void RunUnit(const AttentionUnit& unit) {
    LoadQueries(unit);
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
      state_.SumLanes();
      FinishSplit(unit, split, &is_first_node);
    }
  }

  __device__ __forceinline__ void FinishSplit(const AttentionUnit& unit,
                                              int split, bool* is_first_node) {
    if (unit.kind == kLeaf) {
      FinishLeaf(unit, split);
      return;
    }
    const int node = split / kNodeSplits;
    const bool begins =
        split == unit.split_begin || split == node * kNodeSplits;
    const bool ends =
        split + 1 == unit.split_end || split + 1 == (node + 1) * kNodeSplits;
    if (!begins || !ends) {
      const StoredState<kHeadDim> folded = {Scratch(0)};
      folded.Add(state_, scale_, begins, lane_, unit.num_rows);
      if (!ends) return;
      folded.Load(lane_, unit.num_rows, &state_);
      __syncwarp();
    }
    const int first_node = unit.rows_split_begin / kNodeSplits;
    const bool is_only = (unit.rows_split_end - 1) / kNodeSplits == first_node;
    if (is_only) {
      Write(unit);
    } else if (unit.kind == kFolded) {
      const int64_t slot =
          Slot(unit.node_slot + node - first_node, unit.kv_head);
      StoredState<kHeadDim>{NodeState(slot)}.Store(state_, lane_,
                                                   unit.num_rows);
      FinishNode(unit);
    } else {
      const StoredState<kHeadDim> all = {Scratch(1)};
      all.Add(state_, scale_, *is_first_node, lane_, unit.num_rows);
      *is_first_node = false;
      if (split + 1 == unit.split_end) {
        all.Load(lane_, unit.num_rows, &state_);
        __syncwarp();
        Write(unit);
      }
    }
  }

  __device__ __forceinline__ void Write(const AttentionUnit& unit) {
    WriteRows(p_, state_, unit.query_start, unit.row_begin, unit.num_rows,
              unit.kv_head, lane_);
  }

  // Whether this warp is the last of `count` to come by; what the others wrote
  // before they came is visible if so.
  __device__ __forceinline__ bool IsLastOf(int32_t* arrivals, int count) {
    int32_t before = 0;
    __syncwarp();
    if (lane_ == 0) {
      __threadfence();
      before = atomicAdd(arrivals, 1);
      if (before == count - 1) *arrivals = 0;  // for the next layer
      __threadfence();
    }
    return __shfl_sync(~0u, before, 0) == count - 1;
  }

  __device__ __forceinline__ void FinishLeaf(const AttentionUnit& unit,
                                             int split) {
    const int node = split / kNodeSplits;
    const int begin = max(unit.rows_split_begin, node * kNodeSplits);
    const int end = min(unit.rows_split_end, (node + 1) * kNodeSplits);
    const int first = unit.leaf_slot - unit.rows_split_begin;
    StoredState<kHeadDim>{LeafState(Slot(first + split, unit.kv_head))}.Store(
        state_, lane_, unit.num_rows);
    const int64_t slot = Slot(first + begin, unit.kv_head);
    if (!IsLastOf(plan_.leaf_arrivals + slot, end - begin)) return;
    if (unit.node_slot < 0) {
      FoldRun(unit, LeafState(slot), end - begin, nullptr);
    } else {
      const int first_node = unit.rows_split_begin / kNodeSplits;
      FoldRun(
          unit, LeafState(slot), end - begin,
          NodeState(Slot(unit.node_slot + node - first_node, unit.kv_head)));
      FinishNode(unit);
    }
  }

  // A node's state is stored.
  __device__ __forceinline__ void FinishNode(const AttentionUnit& unit) {
    const int nodes = (unit.rows_split_end - 1) / kNodeSplits -
                      unit.rows_split_begin / kNodeSplits + 1;
    const int64_t slot = Slot(unit.node_slot, unit.kv_head);
    if (!IsLastOf(plan_.node_arrivals + slot, nodes)) return;
    FoldRun(unit, NodeState(slot), nodes, nullptr);
  }

  __device__ __forceinline__ void FoldRun(const AttentionUnit& unit,
                                          const float* states, int count,
                                          float* folded) {
    const StateRun run = {
        states, int64_t{p_.cache.layout.num_kv_heads} * plan_.state_floats,
        count};
    if (unit.num_rows * kHeadDim <= 32 * 4 || count > 8) {
      FoldStored<kHeadDim, 1, 16>(p_, unit, run, folded);
    } else {
      FoldStored<kHeadDim, 4, 4>(p_, unit, run, folded);
    }
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  Memory* memory_;
  const int lane_;
  const int warp_;
  const int group_;
  const float scale_;
  RingPosition<kSlots> slots_;
  uint32_t q_[kHeadDim / 16][4];
  RowRanges ranges_;
  RowState<kHeadDim> state_;
};

template <int kHeadDim, int kPairs, int kSlots, bool kHigh>
__global__ void __launch_bounds__(kPairs * 64, 1)
    DecodeKernel(const __grid_constant__ AttentionParams p,
                 const __grid_constant__ AttentionPlan plan) {
  extern __shared__ __align__(16) uint8_t shared[];
  using Memory = PairMemory<kHeadDim, kSlots>;
  const int lane = threadIdx.x % 32;
  const int pair_in_block = threadIdx.x / 32 % kPairs;
  const bool is_copier = threadIdx.x / 32 >= kPairs;
  Memory* memory = reinterpret_cast<Memory*>(shared) + pair_in_block;
  if (is_copier && lane < kSlots) {
    InitBarrier(SharedAddress(&memory->full[lane]), 32);
    InitBarrier(SharedAddress(&memory->empty[lane]), 1);
  }
  if (is_copier && lane < kUnitRing) {
    InitBarrier(SharedAddress(&memory->ready[lane]), 1);
  }
  __syncthreads();
  // Neighbouring units go to different multiprocessors.
  const int pair = pair_in_block * gridDim.x + blockIdx.x;
  if (!is_copier) {
    Consumer<kHeadDim, kSlots, kHigh>(p, plan, memory, lane, pair).Run();
    return;
  }
  Copier<kHeadDim, kSlots>(p, plan, memory, lane, pair).Run();
  if (lane == 0) {
    const int32_t num_pairs = gridDim.x * kPairs;
    __threadfence();
    if (atomicAdd(&plan.header->warps_done, 1) == num_pairs - 1) {
      plan.header->warps_done = 0;
      plan.header->next_unit = num_pairs;
    }
  }
}

template <int kHeadDim, int kPairs, int kSlots, bool kHigh>
cudaError_t LaunchWith(const AttentionParams& params, const AttentionPlan& plan,
                       int32_t num_sms, cudaStream_t stream) {
  constexpr int kBytes = kPairs * sizeof(PairMemory<kHeadDim, kSlots>);
  static_assert(kBytes <= 227 * 1024);
  const auto kernel = DecodeKernel<kHeadDim, kPairs, kSlots, kHigh>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  kernel<<<num_sms, kPairs * 64, kBytes, stream>>>(params, plan);
  return cudaGetLastError();
}

constexpr int kPairs = 4;

// As many as fit: at least 64 KiB are in flight.
template <int kHeadDim>
constexpr int kSlots = kHeadDim > 128 ? 3 : 6;

template <int kHeadDim>
cudaError_t LaunchFor(const AttentionParams& params, const AttentionPlan& plan,
                      int32_t num_sms, cudaStream_t stream) {
  return plan.decode_rows > 8
             ? LaunchWith<kHeadDim, kPairs, kSlots<kHeadDim>, true>(
                   params, plan, num_sms, stream)
             : LaunchWith<kHeadDim, kPairs, kSlots<kHeadDim>, false>(
                   params, plan, num_sms, stream);
}

}  // namespace

int32_t DecodeWarpsPerSm() { return kPairs; }

cudaError_t LaunchDecode(const AttentionParams& params,
                         const AttentionPlan& plan, int32_t num_sms,
                         cudaStream_t stream) {
  switch (params.cache.layout.head_dim) {
    case 64:
      return LaunchFor<64>(params, plan, num_sms, stream);
    case 80:
      return LaunchFor<80>(params, plan, num_sms, stream);
    case 96:
      return LaunchFor<96>(params, plan, num_sms, stream);
    case 128:
      return LaunchFor<128>(params, plan, num_sms, stream);
    case 256:
      return LaunchFor<256>(params, plan, num_sms, stream);
    default:
      return cudaErrorNotSupported;
  }
}

}  // namespace quire::attention
