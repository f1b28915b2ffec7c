// SPDX-License-Identifier: Apache-2.0
//
// The norm of a row that a block holds in registers: what every kernel that
// ends in a norm shares, so that all give the same bits.
#ifndef KERNELS_CUDA_NORM_ROW_CUH_
#define KERNELS_CUDA_NORM_ROW_CUH_

#include <cstdint>

#include "kernels/cuda/vector.cuh"
#include "kernels/elementwise.h"

namespace quire::norm {

constexpr int kMaxThreads = 1024;

inline int RoundUpToWarps(int64_t threads) {
  return static_cast<int>((threads + cuda::kWarp - 1) / cuda::kWarp) *
         cuda::kWarp;
}

// Vectors of 16 bytes of T that a thread holds of a row, or 0: the row is too
// wide or not a whole number of them.
template <typename T>
int PiecesFor(int64_t width) {
  if (width % cuda::kLanes<T> != 0) return 0;
  const int64_t vectors = width / cuda::kLanes<T>;
  return vectors <= 256               ? 1
         : vectors <= 2 * kMaxThreads ? 2
         : vectors <= 4 * kMaxThreads ? 4
                                      : 0;
}

// Threads of a block that holds a row. REQUIRES: PiecesFor<T>(width) > 0.
template <typename T>
int ThreadsFor(int64_t width) {
  const int pieces = PiecesFor<T>(width);
  return RoundUpToWarps((width / cuda::kLanes<T> + pieces - 1) / pieces);
}

// Whether all that a row's vectors are read from and written to is aligned.
template <typename T>
bool IsAligned(const NormParams& params) {
  return cuda::IsAligned16(params.x) && cuda::IsAligned16(params.residual) &&
         cuda::IsAligned16(params.weight) && cuda::IsAligned16(params.bias) &&
         cuda::IsAligned16(params.out) &&
         params.group_stride % cuda::kLanes<T> == 0;
}

struct Moments {
  float mean;
  float scale;  // 1 / sqrt(variance + epsilon)
};

template <typename T, int kLanes>
__device__ __forceinline__ void Finish(const Moments& moments, const T* weight,
                                       const T* bias, float (&v)[kLanes],
                                       T* out) {
#pragma unroll
  for (int j = 0; j < kLanes; ++j) {
    v[j] = (v[j] - moments.mean) * moments.scale;
  }
  float w[kLanes];
  if (weight != nullptr) {
    cuda::Load(weight, w);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] *= w[j];
  }
  if (bias != nullptr) {
    cuda::Load(bias, w);
#pragma unroll
    for (int j = 0; j < kLanes; ++j) v[j] += w[j];
  }
  cuda::Store(v, out);
}

// v = the residual's `r` + v, rounded to T, which is written back too.
template <typename T, int kLanes>
__device__ __forceinline__ void AddResidual(const float (&r)[kLanes],
                                            T* residual, float (&v)[kLanes]) {
#pragma unroll
  for (int j = 0; j < kLanes; ++j) {
    v[j] = cuda::ToFloat(cuda::FromFloat<T>(v[j] + r[j]));
  }
  cuda::Store(v, residual);
}

// A thread's vectors of the norm's weight, in registers.
template <typename T, int kPieces>
struct Weights {
  uint4 raw[kPieces];

  // Weights do not change: a kernel may read them before it waits for others.
  __device__ __forceinline__ void Load(const NormParams& params) {
    constexpr int kLanes = cuda::kLanes<T>;
#pragma unroll
    for (int p = 0; p < kPieces; ++p) {
      const int at = (p * blockDim.x + threadIdx.x) * kLanes;
      if (at >= params.width || params.weight == nullptr) continue;
      raw[p] = *reinterpret_cast<const uint4*>(
          static_cast<const T*>(params.weight) + at);
    }
  }
};

// out = norm(v). Thread t holds in v[p] the elements from
// (p * blockDim.x + t) * kLanes on. `shared` as for BlockSum; `weights` are
// loaded, or null: then they are read here.
template <typename T, int kLanes, int kPieces>
__device__ __forceinline__ void NormRow(const NormParams& params,
                                        float (&v)[kPieces][kLanes], T* out,
                                        float* shared,
                                        const Weights<T, kPieces>* weights) {
  float sum = 0.0f;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = (p * blockDim.x + threadIdx.x) * kLanes;
    if (at >= params.width) continue;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) sum += v[p][j];
  }
  Moments moments = {0.0f, 0.0f};
  if (params.kind == NormKind::kLayer) {
    moments.mean = cuda::BlockSum(sum, shared) / params.width;
  }
  float squares = 0.0f;
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    if ((p * blockDim.x + threadIdx.x) * kLanes < params.width) {
#pragma unroll
      for (int j = 0; j < kLanes; ++j) {
        const float d = v[p][j] - moments.mean;
        squares = fmaf(d, d, squares);
      }
    }
  }
  const float variance = cuda::BlockSum(squares, shared) / params.width;
  moments.scale = 1.0f / sqrtf(variance + params.epsilon);
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = (p * blockDim.x + threadIdx.x) * kLanes;
    if (at >= params.width) continue;
    const T* here = weight == nullptr ? nullptr : weight + at;
    if (weights != nullptr && weight != nullptr) {
      here = reinterpret_cast<const T*>(&weights->raw[p]);
    }
    Finish(moments, here, bias == nullptr ? nullptr : bias + at, v[p],
           out + at);
  }
}

}  // namespace quire::norm

#endif  // KERNELS_CUDA_NORM_ROW_CUH_
