// SPDX-License-Identifier: Apache-2.0
//
// Sixteen bytes at a time, computed in float; sums over warps and blocks in an
// order that depends on nothing but the block's size.
#ifndef KERNELS_CUDA_VECTOR_CUH_
#define KERNELS_CUDA_VECTOR_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "cuda_runtime.h"

namespace quire::cuda {

constexpr int kWarp = 32;

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Elements of T in 16 bytes.
template <typename T>
inline constexpr int kLanes = 16 / sizeof(T);

// kCount elements, loaded with as few and as wide instructions as their size
// allows. REQUIRES: the address is a multiple of min(16, kCount * sizeof(T)).
template <typename T, int kCount>
__device__ __forceinline__ void Load(const T* from, float (&to)[kCount]) {
  constexpr int kBytes = kCount * sizeof(T);
  if constexpr (kBytes % 16 == 0) {
    constexpr int kStep = kLanes<T>;
#pragma unroll
    for (int i = 0; i < kCount; i += kStep) {
      const uint4 raw = *reinterpret_cast<const uint4*>(from + i);
      const T* values = reinterpret_cast<const T*>(&raw);
#pragma unroll
      for (int j = 0; j < kStep; ++j) to[i + j] = ToFloat(values[j]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = ToFloat(from[i]);
  }
}

template <typename T, int kCount>
__device__ __forceinline__ void Store(const float (&from)[kCount], T* to) {
  constexpr int kBytes = kCount * sizeof(T);
  if constexpr (kBytes % 16 == 0) {
    constexpr int kStep = kLanes<T>;
#pragma unroll
    for (int i = 0; i < kCount; i += kStep) {
      uint4 raw;
      T* values = reinterpret_cast<T*>(&raw);
#pragma unroll
      for (int j = 0; j < kStep; ++j) values[j] = FromFloat<T>(from[i + j]);
      *reinterpret_cast<uint4*>(to + i) = raw;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = FromFloat<T>(from[i]);
  }
}

__device__ __forceinline__ float WarpSum(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  return x;
}

__device__ __forceinline__ float WarpMax(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  return x;
}

// Every thread of the block calls these and gets the result. `shared` holds 32
// floats and is free again at the next barrier after the call.
// REQUIRES: blockDim.x is a multiple of 32.
__device__ __forceinline__ float BlockSum(float x, float* shared) {
  x = WarpSum(x);
  const int warps = blockDim.x / kWarp;
  if (warps == 1) return x;
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  return WarpSum(lane < warps ? shared[lane] : 0.0f);
}

__device__ __forceinline__ float BlockMax(float x, float* shared) {
  x = WarpMax(x);
  const int warps = blockDim.x / kWarp;
  if (warps == 1) return x;
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  const int lane = threadIdx.x % kWarp;
  return WarpMax(lane < warps ? shared[lane] : -INFINITY);
}

inline bool IsAligned16(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

}  // namespace quire::cuda

#endif  // KERNELS_CUDA_VECTOR_CUH_
