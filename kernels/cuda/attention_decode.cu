// SPDX-License-Identifier: Apache-2.0
//
// Decodes. Warps work in pairs: one copies, one computes. The copier fetches
// units (attention_plan.h) until none is left and streams their keys and values
// through a ring of chunks in shared memory that only the pair uses; it runs
// ahead across units, so that most of the ring is always in flight. No pair
// waits for another. Whoever completes the last split of some rows folds their
// states.
#include <cstdint>

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"

namespace quire::attention {
namespace {

constexpr int kUnitRing = 8;  // units begun by the copier, not yet finished
constexpr uint32_t kNoRow = ~0u;

template <int kHeadDim, int kSlots>
struct PairMemory {
  static constexpr int kRowBytes = (kHeadDim + kRowPadding) * 2;
  static constexpr int kSlotBytes = kChunk * kRowBytes;
  // The copier may be kSlots / 2 units ahead of the one in work.
  static_assert(kSlots / 2 + 2 <= kUnitRing);

  alignas(16) uint8_t slots[kSlots][kSlotBytes];
  AttentionUnit units[kUnitRing];
  uint64_t full[kSlots];      // the copies of a chunk have arrived
  uint64_t empty[kSlots];     // and have been read
  uint64_t ready[kUnitRing];  // a unit is known
};

// A place in a ring of barriers.
template <int kSize>
struct RingPosition {
  int at = 0;
  int parity = 0;

  __device__ __forceinline__ void Advance() {
    if (++at == kSize) {
      at = 0;
      parity ^= 1;
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
    if (lane_ < 16) reinterpret_cast<int32_t*>(unit)[lane_] = word_;
    __syncwarp();
    if (lane_ == 0) Arrive(SharedAddress(&memory_->ready[units_.at]));
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
    constexpr int kUnits = kHeadDim / 8;  // 16 bytes each, of a row
    const uint32_t to = SharedAddress(memory_->slots[slots_.at]);
    WaitForPhase(SharedAddress(&memory_->empty[slots_.at]), slots_.parity ^ 1);
#pragma unroll
    for (int i = 0; i < kUnits; ++i) {
      const int index = i * 32 + lane_;
      const int row = index / kUnits, unit = index % kUnits;
      const uint32_t from = __shfl_sync(~0u, own, row);
      const bool is_valid = from != kNoRow;
      const uint64_t source = is_valid ? from + offset : 0;
      CopyAsync(to + row * Memory::kRowBytes + unit * 16,
                static_cast<const uint8_t*>(p_.cache.base) +
                    source * (kHeadDim * 2) + unit * 16,
                is_valid);
    }
    ArriveAfterCopies(SharedAddress(&memory_->full[slots_.at]));
    slots_.Advance();
  }

  const AttentionParams& p_;
  const AttentionPlan& plan_;
  Memory* memory_;
  const int lane_;
  CacheRows cache_;
  int next_unit_;  // lane 0's counts
  int32_t word_ = -1;
  int begin_ = 0, end_ = 0;
  RingPosition<kUnitRing> units_;
  RingPosition<kSlots> slots_;
  uint32_t next_rows_[2];
};

// Folds `count` states, a slot apart, into `folded` or, if that is null, into
// the result. A lane takes four elements of a row at a time.
// States to fold: `count` of them, `apart` floats from one to the next.
struct StateRun {
  const float* first;
  int64_t apart;
  int count;
};

// Four elements of a row, as they are folded.
struct FoldedPiece {
  float4 o = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  float m = NegativeInfinity();
  float l = 0.0f;

  __device__ __forceinline__ void Add(float4 later, float2 ml, float scale) {
    if (ml.x == NegativeInfinity()) return;
    const Fold fold(m, ml.x, scale);
    o.x = fold(o.x, later.x);
    o.y = fold(o.y, later.y);
    o.z = fold(o.z, later.z);
    o.w = fold(o.w, later.w);
    l = fold(l, ml.y);
    m = fold.m;
  }
};

template <int kHeadDim>
__device__ __forceinline__ void StorePiece(const AttentionParams& p,
                                           const AttentionUnit& unit, int item,
                                           const FoldedPiece& piece,
                                           float* folded) {
  constexpr int kPieces = kHeadDim / 4;
  const int row = item / kPieces, at = item % kPieces;
  if (folded != nullptr) {
    float* to = folded + row * (kHeadDim + 4);
    __stcg(reinterpret_cast<float4*>(to) + at, piece.o);
    if (at == 0) {
      __stcg(reinterpret_cast<float2*>(to + kHeadDim),
             make_float2(piece.m, piece.l));
    }
    return;
  }
  const int group = p.num_q_heads / p.cache.layout.num_kv_heads;
  const int in_seq = unit.row_begin + row;
  const int64_t token = unit.query_start + in_seq / group;
  const int head = unit.kv_head * group + in_seq % group;
  const float normalizer = Normalizer(piece.l);
  uint2 packed;
  packed.x = PackBf16(Normalize(piece.o.x, normalizer),
                      Normalize(piece.o.y, normalizer));
  packed.y = PackBf16(Normalize(piece.o.z, normalizer),
                      Normalize(piece.o.w, normalizer));
  reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(p.out) +
                           (token * p.num_q_heads + head) * kHeadDim)[at] =
      packed;
}

// A warp folds states into `folded` or, if that is null, into the result. A
// lane has kItems pieces in hand and loads kBatch states of each at once.
template <int kHeadDim, int kItems, int kBatch>
__device__ __noinline__ void FoldStored(const AttentionParams& p,
                                        const AttentionUnit& unit, StateRun run,
                                        float* folded) {
  constexpr int kPieces = kHeadDim / 4;
  const float scale = p.scale * kLog2E;
  const int items = unit.num_rows * kPieces;
#pragma unroll 1
  for (int first = threadIdx.x % 32; first < items; first += 32 * kItems) {
    FoldedPiece pieces[kItems];
    // Those beyond the last item repeat it, and are not stored.
    const float* from[kItems];
    int at[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const int item = min(first + i * 32, items - 1);
      from[i] = run.first + item / kPieces * (kHeadDim + 4);
      at[i] = item % kPieces;
    }
#pragma unroll 1
    for (int base = 0; base < run.count; base += kBatch) {
      float4 later[kItems][kBatch];
      float2 ml[kItems][kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const int64_t offset = min(base + b, run.count - 1) * run.apart;
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const float* state = from[i] + offset;
          ml[i][b] = __ldcg(reinterpret_cast<const float2*>(state + kHeadDim));
          later[i][b] = __ldcg(reinterpret_cast<const float4*>(state) + at[i]);
        }
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (base + b >= run.count) break;
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          pieces[i].Add(later[i][b], ml[i][b], scale);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      if (first + i * 32 < items) {
        StorePiece<kHeadDim>(p, unit, first + i * 32, pieces[i], folded);
      }
    }
  }
}

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
