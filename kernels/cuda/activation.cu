// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/gated_rows.h"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kThreads = 256;

// x * sigmoid(y).
__device__ __forceinline__ float MulSigmoid(float x, float y) {
  return x / (1.0f + expf(-y));
}

template <ActivationKind kKind>
__device__ __forceinline__ float Activate(float x) {
  if constexpr (kKind == ActivationKind::kSiluMul) {
    return MulSigmoid(x, x);
  } else if constexpr (kKind == ActivationKind::kRelu) {
    return fmaxf(x, 0.0f);
  } else if constexpr (kKind == ActivationKind::kGelu) {
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  } else {
    // (1 + tanh(u)) / 2 = sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
    const float cubic = fmaf(x * x * x, 0.044715f, x);
    return MulSigmoid(x, cubic * 1.5957691216057308f);
  }
}

// Whether gates and what they let through are halves of a row, or take turns in
// groups of kGatedRows.
enum class GateOrder { kHalves, kTurns };

template <ActivationKind kKind, GateOrder kOrder, typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    ActivationKernel(const T* x, T* out, int32_t row_pieces, int64_t items) {
  LetNextKernelBegin();
  WaitForEarlierKernels();
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < items;
       i += int64_t{gridDim.x} * kThreads) {
    float v[kCount];
    if constexpr (kKind == ActivationKind::kSiluMul) {
      const int64_t row = i / row_pieces;
      const int64_t at = i * kCount;  // rows one behind the other
      const T* const gate =
          x + (kOrder == GateOrder::kHalves
                   ? at + row * row_pieces * kCount
                   : at / kGatedRows * (2 * kGatedRows) + at % kGatedRows);
      float up[kCount];
      cuda::Load(gate, v);
      cuda::Load(
          gate + (kOrder == GateOrder::kHalves ? int64_t{row_pieces} * kCount
                                               : kGatedRows),
          up);
#pragma unroll
      for (int j = 0; j < kCount; ++j) v[j] = Activate<kKind>(v[j]) * up[j];
    } else {
      cuda::Load(x + i * kCount, v);
#pragma unroll
      for (int j = 0; j < kCount; ++j) v[j] = Activate<kKind>(v[j]);
    }
    cuda::Store(v, out + i * kCount);
  }
}

template <ActivationKind kKind, typename T,
          GateOrder kOrder = GateOrder::kHalves>
cudaError_t Launch(const ActivationParams& params, cudaStream_t stream) {
  const auto launch = [&]<int kCount>(std::integral_constant<int, kCount>) {
    const int32_t pieces = params.width / kCount;
    const int64_t items = int64_t{params.num_tokens} * pieces;
    if (items == 0) return cudaSuccess;
    const int64_t blocks = (items + kThreads - 1) / kThreads;
    const int64_t grid = blocks < (1 << 16) ? blocks : 1 << 16;
    return LaunchOverlapped(ActivationKernel<kKind, kOrder, T, kCount>,
                            dim3(static_cast<unsigned>(grid)), dim3(kThreads),
                            0, stream, static_cast<const T*>(params.x),
                            static_cast<T*>(params.out), pieces, items);
  };
  constexpr int kWide = cuda::kLanes<T>;
  if (params.width % kWide == 0 && cuda::IsAligned16(params.x) &&
      cuda::IsAligned16(params.out)) {
    return launch(std::integral_constant<int, kWide>());
  }
  return launch(std::integral_constant<int, 1>());
}

template <typename T>
cudaError_t LaunchKind(const ActivationParams& params, cudaStream_t stream) {
  switch (params.kind) {
    case ActivationKind::kSiluMul:
      return Launch<ActivationKind::kSiluMul, T>(params, stream);
    case ActivationKind::kRelu:
      return Launch<ActivationKind::kRelu, T>(params, stream);
    case ActivationKind::kGelu:
      return Launch<ActivationKind::kGelu, T>(params, stream);
    case ActivationKind::kGeluTanh:
      return Launch<ActivationKind::kGeluTanh, T>(params, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t LaunchSiluMulInTurnsCuda(const ActivationParams& params,
                                     DType dtype, cudaStream_t stream) {
  if (params.width % kGatedRows != 0) return cudaErrorInvalidValue;
  constexpr ActivationKind kKind = ActivationKind::kSiluMul;
  return dtype == DType::kF32
             ? Launch<kKind, float, GateOrder::kTurns>(params, stream)
             : Launch<kKind, Bf16, GateOrder::kTurns>(params, stream);
}

cudaError_t LaunchActivationCuda(const ActivationParams& params, DType dtype,
                                 cudaStream_t stream) {
  return dtype == DType::kF32 ? LaunchKind<float>(params, stream)
                              : LaunchKind<Bf16>(params, stream);
}

}  // namespace quire
