// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/norm.h"
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;

// Up to so many rows are normed beside blocks of products. Steps of 128 rows
// took 1 % longer so on an H200.
constexpr int kFewRows = 32;

// A thread holds so many vectors of the weights, unless it must leave registers
// to blocks of products; more would not fit.
constexpr int kMaxHeldPieces = 2;

// Into the second-level cache.
template <typename T, int kLanes, int kPieces>
__device__ __forceinline__ void PrefetchWeights(const NormParams& params) {
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = (p * blockDim.x + threadIdx.x) * kLanes;
    if (at < params.width && params.weight != nullptr) {
      const T* line = static_cast<const T*>(params.weight) + at;
      asm volatile("prefetch.global.L2 [%0];" ::"l"(line));
    }
  }
}

// Rows that are held in registers: kPieces vectors of kLanes a thread.
template <typename X, typename T, int kLanes, int kPieces, bool kIsFew>
__global__ void __launch_bounds__(norm::kMaxThreads)
    NormKernel(const __grid_constant__ NormParams params) {
  __shared__ float shared[cuda::kWarp];
  LetNextKernelBegin();
  // Weights do not depend on earlier kernels, and come from far away.
  constexpr bool kHoldsWeights = !kIsFew && kPieces <= kMaxHeldPieces;
  norm::Weights<T, kPieces> weights;
  if constexpr (kHoldsWeights) {
    weights.Load(params);
  } else {
    PrefetchWeights<T, kLanes, kPieces>(params);
  }
  WaitForEarlierKernels();
  const int64_t row = params.RowStart(blockIdx.x);
  const X* x = static_cast<const X*>(params.x) + row;
  T* residual = params.residual == nullptr
                    ? nullptr
                    : static_cast<T*>(params.residual) + row;
  // All loads before the first store, which might alias them.
  float v[kPieces][kLanes], r[kPieces][kLanes];
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = (p * blockDim.x + threadIdx.x) * kLanes;
    if (at >= params.width) continue;
    cuda::Load(x + at, v[p]);
    if (residual != nullptr) cuda::Load(residual + at, r[p]);
  }
#pragma unroll
  for (int p = 0; p < kPieces; ++p) {
    const int at = (p * blockDim.x + threadIdx.x) * kLanes;
    if (at >= params.width || residual == nullptr) continue;
    norm::AddResidual(r[p], residual + at, v[p]);
  }
  norm::NormRow<T, kLanes, kPieces>(params, v,
                                    static_cast<T*>(params.out) + row, shared,
                                    kHoldsWeights ? &weights : nullptr);
}

// Rows of any width and alignment, read as often as it takes.
template <typename X, typename T>
__global__ void __launch_bounds__(norm::kMaxThreads)
    NormAnyKernel(const __grid_constant__ NormParams params) {
  __shared__ float shared[cuda::kWarp];
  LetNextKernelBegin();
  WaitForEarlierKernels();
  const int64_t row = params.RowStart(blockIdx.x);
  const X* x = static_cast<const X*>(params.x) + row;
  T* residual = static_cast<T*>(params.residual);
  if (residual != nullptr) residual += row;
  const auto value = [&](int i) {
    return residual != nullptr ? cuda::ToFloat(residual[i])
                               : cuda::ToFloat(x[i]);
  };
  float sum = 0.0f;
  for (int i = threadIdx.x; i < params.width; i += blockDim.x) {
    if (residual != nullptr) {
      residual[i] =
          cuda::FromFloat<T>(cuda::ToFloat(x[i]) + cuda::ToFloat(residual[i]));
    }
    sum += value(i);
  }
  norm::Moments moments = {0.0f, 0.0f};
  if (params.kind == NormKind::kLayer) {
    moments.mean = cuda::BlockSum(sum, shared) / params.width;
  }
  float squares = 0.0f;
  for (int i = threadIdx.x; i < params.width; i += blockDim.x) {
    const float d = value(i) - moments.mean;
    squares = fmaf(d, d, squares);
  }
  const float variance = cuda::BlockSum(squares, shared) / params.width;
  moments.scale = 1.0f / sqrtf(variance + params.epsilon);
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  T* out = static_cast<T*>(params.out) + row;
  for (int i = threadIdx.x; i < params.width; i += blockDim.x) {
    float v[1] = {value(i)};
    norm::Finish(moments, weight == nullptr ? nullptr : weight + i,
                 bias == nullptr ? nullptr : bias + i, v, out + i);
  }
}

template <typename X, typename T, int kPieces, bool kIsFew>
cudaError_t LaunchRows(const NormParams& params, cudaStream_t stream) {
  constexpr auto kKernel = NormKernel<X, T, cuda::kLanes<T>, kPieces, kIsFew>;
  if constexpr (kIsFew) {
    // As products have it, or a block would wait until theirs is gone, and the
    // next product's until it is. For each device, which is one thread's.
    thread_local const cudaError_t prepared = cudaFuncSetAttribute(
        kKernel, cudaFuncAttributePreferredSharedMemoryCarveout,
        cudaSharedmemCarveoutMaxShared);
    if (prepared != cudaSuccess) return prepared;
  }
  return LaunchOverlapped(kKernel, dim3(params.num_tokens),
                          dim3(norm::ThreadsFor<T>(params.width)), 0, stream,
                          params);
}

template <typename X, typename T>
cudaError_t Norm(const NormParams& params, cudaStream_t stream) {
  const auto launch = [&]<int kPieces>(std::integral_constant<int, kPieces>) {
    return params.num_tokens <= kFewRows
               ? LaunchRows<X, T, kPieces, true>(params, stream)
               : LaunchRows<X, T, kPieces, false>(params, stream);
  };
  switch (norm::IsAligned<T>(params) ? norm::PiecesFor<T>(params.width) : 0) {
    case 1:
      return launch(std::integral_constant<int, 1>());
    case 2:
      return launch(std::integral_constant<int, 2>());
    case 4:
      return launch(std::integral_constant<int, 4>());
    default:
      break;
  }
  const int64_t threads =
      params.width < norm::kMaxThreads ? params.width : norm::kMaxThreads;
  return LaunchOverlapped(NormAnyKernel<X, T>, dim3(params.num_tokens),
                          dim3(norm::RoundUpToWarps(threads)), 0, stream,
                          params);
}

}  // namespace

cudaError_t LaunchNormCuda(const NormParams& params, DType dtype,
                           cudaStream_t stream) {
  if (params.num_tokens <= 0) return cudaSuccess;
  if (dtype == DType::kF32) return Norm<float, float>(params, stream);
  return params.x_dtype == DType::kF32 ? Norm<float, Bf16>(params, stream)
                                       : Norm<Bf16, Bf16>(params, stream);
}

}  // namespace quire
