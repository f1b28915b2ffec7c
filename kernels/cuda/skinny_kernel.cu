// SPDX-License-Identifier: Apache-2.0
//
// y^T = W x^T on tensor cores, W [n, k] as their A and x [m, k] as their B, so
// that the few rows of x are the narrow side. All pieces of all tiles, in the
// order of (tile, k), are cut into as many runs as there are multiprocessors
// (Stream-K, Osama et al., PPoPP'23). The block in which a tile begins adds
// what the blocks after it leave of that tile, in their order, and stores it.
#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/skinny_kernel.h"

namespace quire {
namespace {

constexpr int kConsumers = 256;  // two warpgroups, 64 rows of the tile each
constexpr int kThreads = kConsumers + 32;
constexpr int kWBytes = kSkinnyTileRows * kSkinnyTileCols * 2;
// Padding, so that the stores of a warp meet every bank once.
constexpr int kOutStride = kSkinnyTileRows + 4;

// As many stages as fit: bytes in flight are what bandwidth needs, and what
// there is before the kernel before ends need not be waited for after.
template <int kTokens>
struct Layout {
  static constexpr int kXBytes = kTokens * kSkinnyTileCols * 2;
  static constexpr int kStageBytes = kWBytes + kXBytes;
  // Tokens that are stored at a time.
  static constexpr int kOutTokens = kTokens < 32 ? kTokens : 32;
  static constexpr int kOutBytes = kOutTokens * kOutStride * 4;
  static constexpr int kAlignment = 1024;  // of a swizzle's pattern
  static constexpr int kStages =
      (226 * 1024 - kAlignment - kOutBytes) / kStageBytes;
  static constexpr int kBytes = kStages * kStageBytes + kOutBytes + kAlignment;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where block `block`'s run begins.
__device__ __forceinline__ int32_t RunBegin(int32_t num_units, int32_t block,
                                            int32_t num_blocks) {
  return static_cast<int32_t>(int64_t{num_units} * block / num_blocks);
}

__device__ __forceinline__ uint32_t SharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void InitBarrier(uint64_t* barrier, int arrivals) {
  asm volatile(
      "mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)),
      "r"(arrivals));
}

__device__ __forceinline__ void Expect(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   SharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void Arrive(uint64_t* barrier) {
  asm volatile(
      "mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier))
      : "memory");
}

__device__ __forceinline__ void Wait(uint64_t* barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void CopyBox(const CUtensorMap& map, int col,
                                        int row, void* to, uint64_t* barrier,
                                        uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier"
      "::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::
          "r"(SharedAddress(to)),
      "l"(&map), "r"(col), "r"(row), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// A matrix in shared memory: rows of 128 bytes, swizzled, k along the row.
__device__ __forceinline__ uint64_t Descriptor(const void* matrix) {
  constexpr uint64_t kEightRows = 1024;  // bytes
  return (SharedAddress(matrix) & 0x3ffff) >> 4 | uint64_t{1} << 16 |
         (kEightRows >> 4) << 32 | uint64_t{1} << 62;
}

// d [64, kTokens] += a [64, 16] b [kTokens, 16]^T.
template <int kTokens>
__device__ __forceinline__ void Multiply(float (&d)[kTokens / 2], uint64_t a,
                                         uint64_t b);

#define QUIRE_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define QUIRE_D16(i) \
  QUIRE_D4(i), QUIRE_D4(i + 4), QUIRE_D4(i + 8), QUIRE_D4(i + 12)
#define QUIRE_WGMMA(n) \
  "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 "

template <>
__device__ __forceinline__ void Multiply<8>(float (&d)[4], uint64_t a,
                                            uint64_t b) {
  asm volatile(QUIRE_WGMMA("8") "{%0,%1,%2,%3}, %4, %5, 1, 1, 1, 0, 0;"
               : QUIRE_D4(0)
               : "l"(a), "l"(b));
}

template <>
__device__ __forceinline__ void Multiply<16>(float (&d)[8], uint64_t a,
                                             uint64_t b) {
  asm volatile(QUIRE_WGMMA("16") "{%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, 1, 1, 1, "
                                 "0, 0;"
               : QUIRE_D4(0), QUIRE_D4(4)
               : "l"(a), "l"(b));
}

template <>
__device__ __forceinline__ void Multiply<32>(float (&d)[16], uint64_t a,
                                             uint64_t b) {
  asm volatile(QUIRE_WGMMA("32") "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,"
                                 "%13,%14,%15}, %16, %17, 1, 1, 1, 0, 0;"
               : QUIRE_D16(0)
               : "l"(a), "l"(b));
}

template <>
__device__ __forceinline__ void Multiply<64>(float (&d)[32], uint64_t a,
                                             uint64_t b) {
  asm volatile(QUIRE_WGMMA(
                   "64") "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,"
                         "%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
                         "%28,%29,%30,%31}, %32, %33, 1, 1, 1, 0, 0;"
               : QUIRE_D16(0), QUIRE_D16(16)
               : "l"(a), "l"(b));
}

#undef QUIRE_D4
#undef QUIRE_D16
#undef QUIRE_WGMMA

// Of the consumers alone.
__device__ __forceinline__ void SyncConsumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(kConsumers) : "memory");
}

template <int kTokens>
struct Shared {
  uint8_t* stages;
  float* out;  // [kOutTokens, kOutStride]
  uint64_t* full;
  uint64_t* empty;

  __device__ uint8_t* w(int stage) const {
    return stages + stage * Layout<kTokens>::kStageBytes;
  }
  __device__ uint8_t* x(int stage) const { return w(stage) + kWBytes; }
};

// One thread feeds the stages. Weights do not depend on the kernel before, so
// the first of them are on their way while that one ends.
template <int kTokens>
__device__ void Produce(const CUtensorMap& w, const CUtensorMap& x,
                        const SkinnyGemmArgs& args, int32_t begin, int32_t end,
                        const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  uint64_t once, again;  // what happens to the lines in the second-level cache
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(once));
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0;" : "=l"(again));
  const auto copy_w = [&](int32_t unit, int stage) {
    Expect(&shared.full[stage], L::kStageBytes);
    const int32_t tile = unit / args.units_per_tile;
    CopyBox(w, (unit - tile * args.units_per_tile) * kSkinnyTileCols,
            tile * kSkinnyTileRows, shared.w(stage), &shared.full[stage], once);
  };
  const auto copy_x = [&](int32_t unit, int stage) {
    CopyBox(x, unit % args.units_per_tile * kSkinnyTileCols, 0, shared.x(stage),
            &shared.full[stage], again);
  };
  const int32_t ahead = min(end - begin, L::kStages);
  for (int32_t i = 0; i < ahead; ++i) copy_w(begin + i, i);
  WaitForEarlierKernels();
  for (int32_t i = 0; i < ahead; ++i) copy_x(begin + i, i);
  for (int32_t i = ahead; i < end - begin; ++i) {
    const int stage = i % L::kStages;
    Wait(&shared.empty[stage], (i / L::kStages + 1) & 1);
    copy_w(begin + i, stage);
    copy_x(begin + i, stage);
  }
}

// Where a thread's sums are in a block's partial: neighbours next to each
// other.
__device__ __forceinline__ float* PartialOf(const SkinnyGemmArgs& args,
                                            int32_t block, int tokens) {
  return args.partials + int64_t{block} * kSkinnyTileRows * tokens +
         threadIdx.x;
}

template <int kTokens>
__device__ void LeavePartial(const SkinnyGemmArgs& args,
                             const float (&sums)[kTokens / 2]) {
  float* to = PartialOf(args, blockIdx.x, kTokens);
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) __stcg(to + i * kConsumers, sums[i]);
  __threadfence();
  SyncConsumers();
  if (threadIdx.x == 0) {
    asm volatile(
        "st.release.gpu.global.s32 [%0], 1;" ::"l"(args.flags + blockIdx.x)
        : "memory");
  }
}

// Adds what the blocks after this one have of the tile that ends at `end`, in
// their order. All are waited for at once, and their sums are on their way
// before the first is added.
template <int kTokens>
__device__ void AddPartials(const SkinnyGemmArgs& args, int32_t end,
                            float (&sums)[kTokens / 2]) {
  constexpr int kAtOnce = kTokens <= 16 ? 4 : kTokens == 32 ? 2 : 1;
  const int32_t first = blockIdx.x + 1;
  int32_t last = first + 1;  // of the blocks that have a part, exclusive
  while (RunBegin(args.num_units, last, gridDim.x) < end) ++last;
  for (int32_t i = first + threadIdx.x; i < last; i += kConsumers) {
    int32_t* flag = args.flags + i;
    int32_t is_there = 0;
    while (is_there == 0) {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];"
                   : "=r"(is_there)
                   : "l"(flag)
                   : "memory");
    }
    *flag = 0;  // for the next launch: nobody else looks at it
  }
  SyncConsumers();
  for (int32_t block = first; block < last; block += kAtOnce) {
    float parts[kAtOnce][kTokens / 2];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (block + j >= last) break;
      const float* from = PartialOf(args, block + j, kTokens);
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) {
        parts[j][i] = __ldcg(from + i * kConsumers);
      }
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (block + j >= last) break;
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) sums[i] += parts[j][i];
    }
  }
}

// A warp a token, four columns a lane.
template <int kTokens>
__device__ __forceinline__ void StoreTokens(const SkinnyGemmArgs& args,
                                            int32_t n, int32_t first_token,
                                            const float* out) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float bias[4] = {};
  if (args.bias != nullptr) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      bias[j] =
          __bfloat162float(static_cast<const __nv_bfloat16*>(args.bias)[n + j]);
    }
  }
  const int count = min(kTokens, args.m - first_token);
  for (int token = warp; token < count; token += kConsumers / 32) {
    float4 v =
        *reinterpret_cast<const float4*>(out + token * kOutStride + lane * 4);
    v.x += bias[0];
    v.y += bias[1];
    v.z += bias[2];
    v.w += bias[3];
    const int64_t at = (first_token + token) * args.y_stride + n;
    if (args.y_is_float) {
      *reinterpret_cast<float4*>(static_cast<float*>(args.y) + at) = v;
    } else {
      const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y);
      const __nv_bfloat162 high = __floats2bfloat162_rn(v.z, v.w);
      uint2 words;
      words.x = *reinterpret_cast<const uint32_t*>(&low);
      words.y = *reinterpret_cast<const uint32_t*>(&high);
      *reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(args.y) + at) =
          words;
    }
  }
}

// Through shared memory, so that a warp stores the neighbours of one token.
template <int kTokens>
__device__ void StoreTile(const SkinnyGemmArgs& args, int32_t tile,
                          const float (&sums)[kTokens / 2], float* out) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int kOutTokens = Layout<kTokens>::kOutTokens;
  const int row = warp * 16 + lane / 4;
  const int32_t n = tile * kSkinnyTileRows + lane * 4;
#pragma unroll
  for (int begin = 0; begin < kTokens; begin += kOutTokens) {
#pragma unroll
    for (int i = 0; i < kOutTokens / 2; ++i) {
      const int token = i / 4 * 8 + lane % 4 * 2 + i % 2;
      out[token * kOutStride + row + (i / 2 % 2) * 8] = sums[begin / 2 + i];
    }
    SyncConsumers();
    if (n < args.n) StoreTokens<kOutTokens>(args, n, begin, out);
    SyncConsumers();  // before the next sums
  }
}

template <int kTokens>
__device__ void Consume(const SkinnyGemmArgs& args, int32_t begin, int32_t end,
                        const Shared<kTokens>& shared) {
  using L = Layout<kTokens>;
  WaitForEarlierKernels();
  const int half = threadIdx.x / 128;  // of the tile's rows
  int32_t done = 0;
  for (int32_t unit = begin; unit < end;) {
    const int32_t tile = unit / args.units_per_tile;
    const int32_t tile_begin = tile * args.units_per_tile;
    const int32_t tile_end = tile_begin + args.units_per_tile;
    const bool is_begun_here = unit == tile_begin;
    float sums[kTokens / 2] = {};
    for (const int32_t last = min(end, tile_end); unit < last; ++unit, ++done) {
      const int stage = done % L::kStages;
      Wait(&shared.full[stage], done / L::kStages & 1);
      const uint64_t a = Descriptor(shared.w(stage) + half * (kWBytes / 2));
      const uint64_t b = Descriptor(shared.x(stage));
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) asm volatile("" : "+f"(sums[i]));
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int k = 0; k < kSkinnyTileCols / 16; ++k) {
        // 16 columns are 32 bytes, two of a descriptor's units.
        Multiply<kTokens>(sums, a + 2 * k, b + 2 * k);
      }
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
      for (int i = 0; i < kTokens / 2; ++i) asm volatile("" : "+f"(sums[i]));
      if (threadIdx.x % 32 == 0) Arrive(&shared.empty[stage]);
    }
    if (!is_begun_here) {
      LeavePartial<kTokens>(args, sums);
      continue;
    }
    if (unit < tile_end) AddPartials<kTokens>(args, tile_end, sums);
    StoreTile<kTokens>(args, tile, sums, shared.out);
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kTokens>
__global__ void __launch_bounds__(kThreads, 1)
    SkinnyGemmKernel(const __grid_constant__ CUtensorMap w,
                     const __grid_constant__ CUtensorMap x,
                     const __grid_constant__ SkinnyGemmArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using L = Layout<kTokens>;
  extern __shared__ uint8_t raw[];
  __shared__ uint64_t full[L::kStages];
  __shared__ uint64_t empty[L::kStages];
  uint8_t* const base = reinterpret_cast<uint8_t*>(
      (reinterpret_cast<uintptr_t>(raw) + L::kAlignment - 1) / L::kAlignment *
      L::kAlignment);
  const Shared<kTokens> shared = {
      base, reinterpret_cast<float*>(base + L::kStages * L::kStageBytes), full,
      empty};
  if (threadIdx.x == 0) {
    for (int i = 0; i < L::kStages; ++i) {
      InitBarrier(&full[i], 1);
      InitBarrier(&empty[i], kConsumers / 32);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  LetNextKernelBegin();
  const int32_t begin = RunBegin(args.num_units, blockIdx.x, gridDim.x);
  const int32_t end = RunBegin(args.num_units, blockIdx.x + 1, gridDim.x);
  if (threadIdx.x < kConsumers) {
    Consume<kTokens>(args, begin, end, shared);
  } else if (threadIdx.x == kConsumers) {
    Produce<kTokens>(w, x, args, begin, end, shared);
  }
#endif
}

template <int kTokens>
cudaError_t Launch(const CUtensorMap& w, const CUtensorMap& x,
                   const SkinnyGemmArgs& args, int32_t num_blocks,
                   cudaStream_t stream) {
  using L = Layout<kTokens>;
  static const cudaError_t prepared = cudaFuncSetAttribute(
      SkinnyGemmKernel<kTokens>, cudaFuncAttributeMaxDynamicSharedMemorySize,
      L::kBytes);
  if (prepared != cudaSuccess) return prepared;
  return LaunchOverlapped(SkinnyGemmKernel<kTokens>, dim3(num_blocks),
                          dim3(kThreads), L::kBytes, stream, w, x, args);
}

}  // namespace

int32_t SkinnyTokens(int64_t m) {
  return m <= 8 ? 8 : m <= 16 ? 16 : m <= 32 ? 32 : 64;
}

cudaError_t LaunchSkinnyGemm(const CUtensorMap& w, const CUtensorMap& x,
                             const SkinnyGemmArgs& args, int32_t num_sms,
                             cudaStream_t stream) {
  const int32_t num_blocks =
      args.num_units < num_sms ? args.num_units : num_sms;
  switch (SkinnyTokens(args.m)) {
    case 8:
      return Launch<8>(w, x, args, num_blocks, stream);
    case 16:
      return Launch<16>(w, x, args, num_blocks, stream);
    case 32:
      return Launch<32>(w, x, args, num_blocks, stream);
    default:
      return Launch<64>(w, x, args, num_blocks, stream);
  }
}

}  // namespace quire
