// SPDX-License-Identifier: Apache-2.0
//
// Prefills on Hopper. A thread block takes kPrefillRows rows of a sequence and
// one KV head. One warp group copies (attention_loader.cuh), two compute, each
// half of the rows: scores by products from shared memory, the online softmax
// in registers, and from there into the products with values, which run while
// the next tile's softmax does. Tiles of keys are cut by position alone, so
// that a row's bits depend on its query and keys alone; they are not those of
// decodes, whose order of arithmetic differs.
#include <cstdint>

#include "kernels/cuda/attention_loader.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/attention_state.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/attention_wgmma.cuh"
#include "kernels/cuda/overlapped_launch.cuh"

namespace quire::attention {
namespace {

constexpr int kThreads = (1 + kConsumerGroups) * kGroupThreads;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Registers of a thread that copies, and of one that computes: 65,536 in all.
constexpr int kLoaderRegisters = 56;
constexpr int kConsumerRegisters = 224;

// A warp group that computes.
template <int kHeadDim, bool kHasFewRows>
class Consumer {
 public:
  using Memory = PrefillMemory<kHeadDim>;
  using Shape = PrefillShape<kHeadDim>;

  __device__ __forceinline__ Consumer(const AttentionParams& p, Memory* memory)
      : p_(p),
        memory_(memory),
        lane_(threadIdx.x % 32),
        index_(threadIdx.x / kGroupThreads - 1),
        group_(p.num_q_heads / p.cache.layout.num_kv_heads),
        scale_(p.scale * kLog2E),
        queries_(Swizzle<Shape::kPart>::Descriptor(
            SharedAddress(memory->queries) +
                index_ * kGroupRows * Swizzle<Shape::kPart>::kRowBytes,
            Shape::kQueryPartBytes)),
        slots_(Swizzle<Shape::kPart>::Descriptor(
            SharedAddress(memory->slots[0]), Shape::kPartBytes)) {}

  __device__ __forceinline__ void Run() {
    // The first group begins.
    if (index_ == 1) PassTurn();
    int parity = 0;
#pragma unroll 1
    for (RingPosition<kTileRing> at;; at.Advance()) {
      const TileRows rows = memory_->TakeTile(at);
      if (rows.num_rows == 0) break;
      memory_->GiveTileBack(at);
      WaitForPhase(SharedAddress(&memory_->queries_full[index_]), parity);
      parity ^= 1;
      if (kHasFewRows && index_ > 0) {
        PassTile(rows);
      } else {
        RunTile(rows);
      }
    }
    if (index_ == 0) TakeTurn();
  }

 private:
  static constexpr int kColumns = Shape::kPadded > 128 ? 128 : Shape::kPadded;
  static constexpr int kParts = Shape::kPadded / kColumns;
  static constexpr int kScores = Shape::kKeys / 8;
  using Ring = RingPosition<Shape::kSlots>;

  __device__ __forceinline__ void RunTile(const TileRows& rows) {
    SetRanges(rows);
    Reset();
    const int count = NumKeyTiles<Shape::kKeys>(rows);
    int at = rows.kv_begin / Shape::kKeys * Shape::kKeys;
    float s[kScores][4] = {};
    uint32_t weights[kScores / 2][4];
    float shrink[2];
    Ring keys = TakeSlot();
    BeginProducts();
    Score(keys.at, s);
    CommitProducts();
    WaitForProducts<0>();
    HoldRegisters(s);
    Release(&memory_->empty[keys.at]);
    if (count == 1) Release(&memory_->queries_empty[index_]);
    Soften(at, s, shrink);
    Pack(s, weights);
#pragma unroll 1
    for (int i = 1; i < count; ++i) {
      at += Shape::kKeys;
      keys = TakeSlot();
      const Ring values = TakeSlot();
      TakeTurn();
      HoldRegisters(s);
      BeginProducts();
      Score(keys.at, s);
      CommitProducts();
      Accumulate(values.at, weights);
      CommitProducts();
      PassTurn();
      WaitForProducts<1>();
      HoldRegisters(s);
      Release(&memory_->empty[keys.at]);
      if (i + 1 == count) Release(&memory_->queries_empty[index_]);
      Soften(at, s, shrink);
      if (IsSettled(shrink)) {
        WaitForProducts<0>();
        HoldOutputs();
      } else {
        WaitForProducts<0>();
        HoldOutputs();
        Shrink(shrink);
      }
      Release(&memory_->empty[values.at]);
      Pack(s, weights);
    }
    const Ring values = TakeSlot();
    HoldOutputs();
    BeginProducts();
    Accumulate(values.at, weights);
    CommitProducts();
    WaitForProducts<0>();
    HoldOutputs();
    Release(&memory_->empty[values.at]);
    Write(rows);
  }

  // Goes along with the first group, which has all rows.
  __device__ __forceinline__ void PassTile(const TileRows& rows) {
    Release(&memory_->queries_empty[index_]);
    Release(&memory_->empty[TakeSlot().at]);
#pragma unroll 1
    for (int i = NumKeyTiles<Shape::kKeys>(rows); i > 1; --i) {
      Release(&memory_->empty[TakeSlot().at]);
      Release(&memory_->empty[TakeSlot().at]);
      TakeTurn();
      PassTurn();
    }
    Release(&memory_->empty[TakeSlot().at]);
  }

  // Groups take turns at beginning products: while one's run, the other's
  // softmax does.
  __device__ __forceinline__ void TakeTurn() {
    SyncNamed(1 + index_, kConsumerGroups * kGroupThreads);
  }
  __device__ __forceinline__ void PassTurn() {
    ArriveNamed(2 - index_, kConsumerGroups * kGroupThreads);
  }

  // The ring's next slot, once it is full.
  __device__ __forceinline__ Ring TakeSlot() {
    const Ring slot = ring_;
    WaitForPhase(SharedAddress(&memory_->full[slot.at]), slot.parity);
    ring_.Advance();
    return slot;
  }
  // This warp has read what the barrier guards.
  __device__ __forceinline__ void Release(uint64_t* barrier) {
    __syncwarp();
    if (lane_ == 0) Arrive(SharedAddress(barrier));
  }

  __device__ __forceinline__ int FirstRow() const {
    return index_ * kGroupRows + threadIdx.x % kGroupThreads / 32 * kMmaRows +
           lane_ / 4;
  }

  __device__ __forceinline__ void SetRanges(const TileRows& rows) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = rows.row_begin + FirstRow() + 8 * i;
      end_[i] = rows.position + row / group_ + 1;
      begin_[i] = p_.sliding_window > 0 ? end_[i] - p_.sliding_window : 0;
    }
    // Positions that all rows of the group attend to.
    const int first = rows.row_begin + index_ * kGroupRows;
    whole_end_ = rows.position + first / group_ + 1;
    whole_begin_ = 0;
    if (p_.sliding_window > 0) {
      whole_begin_ = rows.position + (first + kGroupRows - 1) / group_ + 1 -
                     p_.sliding_window;
    }
  }

  __device__ __forceinline__ void Reset() {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o_[part][j][i] = 0.0f;
      }
    }
    m_[0] = m_[1] = NegativeInfinity();
    l_[0] = l_[1] = 0.0f;
  }

  __device__ __forceinline__ void HoldOutputs() {
#pragma unroll
    for (int part = 0; part < kParts; ++part) HoldRegisters(o_[part]);
  }

  __device__ __forceinline__ void Score(int slot, float (&s)[kScores][4]) {
    const uint64_t keys = slots_ + slot * (Shape::kSlotBytes / 16);
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      const int part = k * 16 / Shape::kPart;
      const int step = k * 16 % Shape::kPart / 8;
      MultiplyRows(s, queries_ + part * (Shape::kQueryPartBytes / 16) + step,
                   keys + part * (Shape::kPartBytes / 16) + step, k == 0);
    }
  }

  __device__ __forceinline__ void Accumulate(
      int slot, const uint32_t (&weights)[kScores / 2][4]) {
    const uint64_t values = slots_ + slot * (Shape::kSlotBytes / 16);
#pragma unroll
    for (int k = 0; k < Shape::kKeys / 16; ++k) {
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        AddProduct(
            o_[part], weights[k],
            values + k * Swizzle<Shape::kPart>::kRowBytes +
                part * (kColumns / Shape::kPart) * (Shape::kPartBytes / 16));
      }
    }
  }

  // One tile's update of m and l: scores become weights. Outputs are to be
  // multiplied by `shrink`.
  __device__ __forceinline__ void Soften(int at, float (&s)[kScores][4],
                                         float (&shrink)[2]) {
    if (at < whole_begin_ || at + Shape::kKeys > whole_end_) Mask(at, s);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float top = fmaxf(s[0][2 * row], s[0][2 * row + 1]);
#pragma unroll
      for (int j = 1; j < kScores; ++j) {
        top = fmaxf(top, fmaxf(s[j][2 * row], s[j][2 * row + 1]));
      }
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      const float old = m_[row];
      const float now = fmaxf(old, top);
      const float used = now == NegativeInfinity() ? 0.0f : now;
      const float offset = -__fmul_rn(used, scale_);
      // Exactly one where the maximum stays.
      shrink[row] = Exp2(__fmul_rn(__fsub_rn(old, used), scale_));
      m_[row] = now;
      float sum = __fmul_rn(l_[row], shrink[row]);
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        const float a = Exp2(__fmaf_rn(s[j][2 * row], scale_, offset));
        const float b = Exp2(__fmaf_rn(s[j][2 * row + 1], scale_, offset));
        sum = __fadd_rn(sum, __fadd_rn(a, b));
        s[j][2 * row] = a;
        s[j][2 * row + 1] = b;
      }
      l_[row] = sum;
    }
  }

  __device__ __forceinline__ void Mask(int at, float (&s)[kScores][4]) {
#pragma unroll
    for (int j = 0; j < kScores; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int position = at + j * 8 + (lane_ & 3) * 2 + (i & 1);
        if (position < begin_[i >> 1] || position >= end_[i >> 1]) {
          s[j][i] = NegativeInfinity();
        }
      }
    }
  }

  __device__ __forceinline__ void Pack(const float (&s)[kScores][4],
                                       uint32_t (&weights)[kScores / 2][4]) {
#pragma unroll
    for (int j = 0; j < kScores; ++j) {
      weights[j / 2][2 * (j % 2)] = PackBf16(s[j][0], s[j][1]);
      weights[j / 2][2 * (j % 2) + 1] = PackBf16(s[j][2], s[j][3]);
    }
  }

  // Whether no row's outputs shrink. It asks for the sums, too, which are never
  // negative: a branch on them keeps the assembler from moving the softmax
  // behind the products that are to run meanwhile.
  __device__ __forceinline__ bool IsSettled(const float (&shrink)[2]) {
    return __all_sync(~0u, shrink[0] == 1.0f && shrink[1] == 1.0f &&
                               l_[0] >= 0.0f && l_[1] >= 0.0f);
  }

  __device__ __forceinline__ void Shrink(const float (&shrink)[2]) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int j = 0; j < kColumns / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[part][j][i] = __fmul_rn(o_[part][j][i], shrink[i / 2]);
        }
      }
    }
  }

  // Four lanes hold a row: they swap words so that each writes 16 bytes at
  // once, of every fourth 8 columns.
  __device__ __forceinline__ void Write(const TileRows& rows) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      l_[i] = __fadd_rn(l_[i], __shfl_xor_sync(~0u, l_[i], 1));
      l_[i] = __fadd_rn(l_[i], __shfl_xor_sync(~0u, l_[i], 2));
      const float normalizer = Normalizer(l_[i]);
      const int row = FirstRow() + 8 * i;
      const int in_seq = rows.row_begin + row;
      const int64_t token = rows.query_start + in_seq / group_;
      const int head = rows.kv_head * group_ + in_seq % group_;
      __nv_bfloat16* to = static_cast<__nv_bfloat16*>(p_.out) +
                          (token * p_.num_q_heads + head) * kHeadDim;
#pragma unroll
      for (int j = 0; j < kHeadDim / 8; j += 4) {
        uint32_t words[4];
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          const float* o = o_[(j + w) * 8 / kColumns][(j + w) % (kColumns / 8)];
          words[w] = PackBf16(Normalize(o[2 * i], normalizer),
                              Normalize(o[2 * i + 1], normalizer));
        }
        Exchange(words);
        const int column = (j + (lane_ & 3)) * 8;
        if (row < rows.num_rows && column < kHeadDim) {
          *reinterpret_cast<uint4*>(to + column) =
              make_uint4(words[0], words[1], words[2], words[3]);
        }
      }
    }
  }

  // Word w of lane l, of each four lanes, becomes word l of lane w.
  __device__ __forceinline__ void Exchange(uint32_t (&words)[4]) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      const bool is_high = lane_ & step;
#pragma unroll
      for (int low = 0; low < 4; ++low) {
        if (low & step) continue;
        const uint32_t sent = is_high ? words[low] : words[low + step];
        const uint32_t got = __shfl_xor_sync(~0u, sent, step);
        words[low] = is_high ? got : words[low];
        words[low + step] = is_high ? words[low + step] : got;
      }
    }
  }

  const AttentionParams& p_;
  Memory* memory_;
  const int lane_;
  const int index_;  // of the consuming groups
  const int group_;
  const float scale_;
  const uint64_t queries_;  // descriptors
  const uint64_t slots_;
  Ring ring_;
  int begin_[2], end_[2];  // positions that the lane's rows attend to
  int whole_begin_, whole_end_;
  float o_[kParts][kColumns / 8][4];
  float m_[2];  // largest score so far, not scaled
  float l_[2];  // this lane's part of the sum of weights
};

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kHeadDim, bool kIsTiled, bool kHasFewRows>
__global__ void __launch_bounds__(kThreads, 1)
    WgmmaPrefillKernel(const __grid_constant__ AttentionParams p,
                       const __grid_constant__ AttentionPlan plan) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared[];
  auto* memory = reinterpret_cast<PrefillMemory<kHeadDim>*>(shared);
  if (threadIdx.x == 0) memory->Init();
  __syncthreads();
  if (threadIdx.x < kGroupThreads) {
    GiveUpRegisters<kLoaderRegisters>();
    // Beside the last decodes: nothing that those write is read here, and they
    // waited for what was written before.
    if (plan.prefills_alone && !kHasFewRows) WaitForEarlierKernels();
    Loader<kHeadDim, kIsTiled, kHasFewRows>(p, plan, memory).Run();
    if (threadIdx.x == 0 && !kHasFewRows) LeavePrefill(plan);
    if (!plan.prefills_alone) WaitForEarlierKernels();
  } else {
    TakeRegisters<kConsumerRegisters>();
    Consumer<kHeadDim, kHasFewRows>(p, memory).Run();
  }
#endif
}

template <int kHeadDim, bool kIsTiled, bool kHasFewRows>
cudaError_t LaunchWith(const AttentionParams& params, const AttentionPlan& plan,
                       cudaStream_t stream) {
  constexpr int kBytes = sizeof(PrefillMemory<kHeadDim>);
  static_assert(kBytes <= 227 * 1024);
  const auto kernel = WgmmaPrefillKernel<kHeadDim, kIsTiled, kHasFewRows>;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  return LaunchOverlapped(kernel, plan.num_blocks, kThreads, kBytes, stream,
                          params, plan);
}

template <int kHeadDim>
cudaError_t LaunchFor(const AttentionParams& params, const AttentionPlan& plan,
                      cudaStream_t stream) {
  const bool is_few = plan.has_few_rows;
  if constexpr (kHeadDim % kTilePart == 0) {
    if (params.cache.layout.order == KvOrder::kTiles) {
      return is_few ? LaunchWith<kHeadDim, true, true>(params, plan, stream)
                    : LaunchWith<kHeadDim, true, false>(params, plan, stream);
    }
  }
  return is_few ? LaunchWith<kHeadDim, false, true>(params, plan, stream)
                : LaunchWith<kHeadDim, false, false>(params, plan, stream);
}

}  // namespace

bool HasWgmma() {
  int device = 0, major = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor,
                                device) == cudaSuccess &&
         major == 9;
}

cudaError_t LaunchWgmmaPrefill(const AttentionParams& params,
                               const AttentionPlan& plan, cudaStream_t stream) {
  return ForHeadDim(params.cache.layout.head_dim, [&](auto head_dim) {
    return LaunchFor<head_dim()>(params, plan, stream);
  });
}

}  // namespace quire::attention
