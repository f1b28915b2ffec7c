// SPDX-License-Identifier: Apache-2.0
//
// From a warpgroup's accumulators of a tile of y^T to rows of y: transposed on
// their way into shared memory, from where the copy engine takes them while the
// next tile's products run.
#ifndef KERNELS_CUDA_TILE_STORE_CUH_
#define KERNELS_CUDA_TILE_STORE_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/cuda/tile_kernel.h"
#include "kernels/cuda/wgmma.cuh"

namespace quire::tile {

constexpr int kWarpgroup = 128;
constexpr int kWarpgroupRows = 64;  // of the weight
// Of shared memory, each warpgroup's: half a tile's tokens by its rows, or all
// tokens by what its gates let through.
constexpr int kOutBytes = kMaxTileTokens / 2 * kWarpgroupRows * 2;

// What a warpgroup stores: its rows of the weight from `first_row` on, of the
// tile's tokens from `first_token` on.
struct Place {
  int32_t first_row;
  int32_t first_token;
};

// Of one warpgroup.
__device__ __forceinline__ void SyncWarpgroup() {
  asm volatile("bar.sync %0, %1;" ::"r"(1 + threadIdx.x / kWarpgroup),
               "n"(kWarpgroup)
               : "memory");
}

__device__ __forceinline__ uint32_t Pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 8 x 8 matrices, a lane's two elements of row l / 4 each, stored transposed.
// Lanes 8 i and following say where matrix i's rows are.
__device__ __forceinline__ void StoreMatrices(uint32_t to, uint32_t a,
                                              uint32_t b, uint32_t c,
                                              uint32_t d) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, "
      "%4};" ::"r"(to),
      "r"(a), "r"(b), "r"(c), "r"(d)
      : "memory");
}

__device__ __forceinline__ void StoreMatrices(uint32_t to, uint32_t a,
                                              uint32_t b) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(
          to),
      "r"(a), "r"(b)
      : "memory");
}

// Whether this thread is the one of its warpgroup that speaks to the engine.
__device__ __forceinline__ bool IsSpeaker() {
  return threadIdx.x % kWarpgroup == 0;
}

// Until what was stored before has left shared memory.
__device__ __forceinline__ void WaitForRoom() {
  if (IsSpeaker()) {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
  SyncWarpgroup();
}

// Before a block ends.
__device__ __forceinline__ void WaitForStores() {
  if (IsSpeaker()) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// Lets the engine store, or add, one box. Beyond y's ends it stores nothing.
__device__ __forceinline__ void StoreBox(const CUtensorMap& y, bool adds,
                                         int32_t col, int32_t row,
                                         const uint8_t* from) {
  if (adds) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group "
        "[%0, {%1, %2}], [%3];" ::"l"(&y),
        "r"(col), "r"(row), "r"(hopper::SharedAddress(from))
        : "memory");
  } else {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group "
        "[%0, {%1, %2}], [%3];" ::"l"(&y),
        "r"(col), "r"(row), "r"(hopper::SharedAddress(from))
        : "memory");
  }
}

__device__ __forceinline__ void CommitStores() {
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Lets the engine see what all threads of the warpgroup wrote.
__device__ __forceinline__ void PublishToEngine() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  SyncWarpgroup();
}

// The words of a group of eight tokens: of the warp's first eight rows, or of
// the others.
__device__ __forceinline__ uint32_t WordOf(const float* sums, int group,
                                           int eight) {
  return Pack(sums[group * 4 + eight * 2], sums[group * 4 + eight * 2 + 1]);
}

// Groups of eight tokens [kFirst, kFirst + kCount) into shared memory: tokens'
// rows of 128 bytes, swizzled.
template <int kFirst, int kCount>
__device__ __forceinline__ void TransposeGroups(uint8_t* out,
                                                const float* sums) {
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32 % 4;
  // Matrices: eight rows, the next eight, and both of the next eight tokens.
  const uint32_t to = hopper::SharedAddress(out) +
                      (lane / 16 * 8 + lane % 8) * 128 +
                      ((warp * 2 + lane / 8 % 2) ^ lane % 8) * 16;
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const int group = kFirst + i;
    if (i + 1 < kCount) {
      StoreMatrices(to + i * 1024, WordOf(sums, group, 0),
                    WordOf(sums, group, 1), WordOf(sums, group + 1, 0),
                    WordOf(sums, group + 1, 1));
    } else {
      StoreMatrices(to + i * 1024, WordOf(sums, group, 0),
                    WordOf(sums, group, 1));
    }
  }
}

// Half the tokens at a time.
template <int kTokens>
__device__ __forceinline__ void StoreRows(const CUtensorMap& y,
                                          const TileGemmArgs& args,
                                          const Place& place, uint8_t* out,
                                          const float (&sums)[kTokens / 2]) {
  constexpr int kGroups = kTokens / 16;  // of eight tokens, of a half
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    WaitForRoom();
    if (half == 0) {
      TransposeGroups<0, kGroups>(out, sums);
    } else {
      TransposeGroups<kGroups, kGroups>(out, sums);
    }
    PublishToEngine();
    if (!IsSpeaker()) continue;
    StoreBox(y, args.adds, place.first_row,
             place.first_token + half * (kTokens / 2), out);
    CommitStores();
  }
}

__device__ __forceinline__ float SiluMul(float gate, float up) {
  return __fdividef(gate, 1.0f + __expf(-gate)) * up;
}

// The word of a group of eight tokens: of every sixteen rows the first eight
// are gates, the others what they let through.
__device__ __forceinline__ uint32_t GatedWordOf(const float* sums, int group) {
  const float* of = sums + group * 4;
  return Pack(SiluMul(of[0], of[2]), SiluMul(of[1], of[3]));
}

// Tokens' rows of 64 bytes, swizzled.
template <int kTokens>
__device__ __forceinline__ void StoreGated(const CUtensorMap& y,
                                           const Place& place, uint8_t* out,
                                           const float (&sums)[kTokens / 2]) {
  constexpr int kGroups = kTokens / 8;  // of eight tokens, an even number
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32 % 4;
  const uint32_t to =
      hopper::SharedAddress(out) + lane * 64 + (warp ^ lane / 2 % 4) * 16;
  WaitForRoom();
#pragma unroll
  for (int group = 0; group < kGroups; group += 4) {
    if (group + 2 < kGroups) {
      StoreMatrices(to + group * 512, GatedWordOf(sums, group),
                    GatedWordOf(sums, group + 1), GatedWordOf(sums, group + 2),
                    GatedWordOf(sums, group + 3));
    } else {
      StoreMatrices(to + group * 512, GatedWordOf(sums, group),
                    GatedWordOf(sums, group + 1));
    }
  }
  PublishToEngine();
  if (!IsSpeaker()) return;
  StoreBox(y, /*adds=*/false, place.first_row / 2, place.first_token, out);
  CommitStores();
}

// Four rows of eight floats fill four sectors as they are.
template <int kTokens>
__device__ __forceinline__ void StoreFloats(const TileGemmArgs& args,
                                            const Place& place,
                                            const float (&sums)[kTokens / 2]) {
  const int lane = threadIdx.x % 32;
  const int32_t first_row =
      place.first_row + static_cast<int32_t>(threadIdx.x) / 32 % 4 * 16;
  float* const y = static_cast<float*>(args.y);
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) {
    const int32_t row = first_row + lane / 4 + i / 2 % 2 * 8;
    const int32_t token = place.first_token + i / 4 * 8 + lane % 4 * 2 + i % 2;
    if (row < args.n && token < args.m)
      y[token * args.y_stride + row] = sums[i];
  }
}

template <int kTokens>
__device__ __forceinline__ void AddBias(const TileGemmArgs& args,
                                        const Place& place,
                                        float (&sums)[kTokens / 2]) {
  if (args.bias == nullptr) return;
  const auto* bias = static_cast<const __nv_bfloat16*>(args.bias);
  const int32_t row = place.first_row +
                      static_cast<int32_t>(threadIdx.x) / 32 % 4 * 16 +
                      static_cast<int32_t>(threadIdx.x) % 32 / 4;
  const float low = row < args.n ? __bfloat162float(bias[row]) : 0.0f;
  const float high = row + 8 < args.n ? __bfloat162float(bias[row + 8]) : 0.0f;
#pragma unroll
  for (int i = 0; i < kTokens / 2; ++i) sums[i] += i / 2 % 2 ? high : low;
}

// Sums, as `wgmma` leaves them, into y. `out` is the warpgroup's own.
template <int kTokens>
__device__ __forceinline__ void Store(const CUtensorMap& y,
                                      const TileGemmArgs& args,
                                      const Place& place, uint8_t* out,
                                      float (&sums)[kTokens / 2]) {
  AddBias<kTokens>(args, place, sums);
  if (args.y_is_float) {
    StoreFloats<kTokens>(args, place, sums);
  } else if (args.is_gated) {
    StoreGated<kTokens>(y, place, out, sums);
  } else {
    StoreRows<kTokens>(y, args, place, out, sums);
  }
}

}  // namespace quire::tile

#endif  // KERNELS_CUDA_TILE_STORE_CUH_
