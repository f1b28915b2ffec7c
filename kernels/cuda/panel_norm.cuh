// SPDX-License-Identifier: Apache-2.0
//
// A root-mean-square norm as parts of two products (FoldedNorm): what the first
// stores beside y, and how the second finds the factors of its rows.
#ifndef KERNELS_CUDA_PANEL_NORM_CUH_
#define KERNELS_CUDA_PANEL_NORM_CUH_

#include <cstdint>

#include "kernels/cuda/fragment_rows.cuh"
#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/panel_kernel.h"
#include "kernels/cuda/wgmma.cuh"

namespace quire::panel {

static_assert(FoldedNorm::kMaxRows == kPanelTokens);

// The rows' factors 1 / rms, of the tokens of a block, and when they are there:
// each lane that finds some arrives.
struct RowFactors {
  static constexpr int kArrivals = 32;
  float* values;  // [kPanelTokens]
  uint64_t* are_there;
};

// Of eight neighbours of a row of y, as they were stored: what the next product
// reads into `to`, and the sum of squares of the four lanes' 32 into `squares`,
// by the first of them. Both may be null: then there is nothing to write.
// REQUIRES: all lanes of the warp.
__device__ __forceinline__ void ScaleAndSquare(const uint4& row,
                                               const uint4& weight, uint4* to,
                                               float* squares) {
  const uint32_t words[4] = {row.x, row.y, row.z, row.w};
  const uint32_t weights[4] = {weight.x, weight.y, weight.z, weight.w};
  uint32_t scaled[4];
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 v = fragment::Unpack(words[i]);
    const float2 w = fragment::Unpack(weights[i]);
    scaled[i] = fragment::Pack(v.x * w.x, v.y * w.y);
    sum = fmaf(v.x, v.x, fmaf(v.y, v.y, sum));
  }
  if (to == nullptr) sum = 0.0f;
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  if (squares != nullptr && threadIdx.x % 4 == 0) *squares = sum;
  if (to != nullptr)
    *to = make_uint4(scaled[0], scaled[1], scaled[2], scaled[3]);
}

// One warp finds the factors of a block's rows, four a lane, while others
// multiply: the sums of squares are added in their order.
__device__ __forceinline__ void FindFactors(const PanelGemmArgs& args,
                                            const RowFactors& factors) {
  constexpr int kAtOnce = 16;
  const PanelNormBefore& norm = args.norm_before;
  const int lane = threadIdx.x % 32;
  const int32_t row = lane * 4;
  WaitForEarlierKernels();
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
  for (int32_t first = 0; first < norm.num_squares; first += kAtOnce) {
    float4 squares[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      squares[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (first + i >= norm.num_squares || row >= args.m) continue;
      squares[i] = *reinterpret_cast<const float4*>(
          norm.squares + (first + i) * FoldedNorm::kMaxRows + row);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      sum.x += squares[i].x;
      sum.y += squares[i].y;
      sum.z += squares[i].z;
      sum.w += squares[i].w;
    }
  }
  // Errs by 2^-22.
  const auto factor = [&](float squares) {
    return rsqrtf(fmaf(squares, norm.share, norm.epsilon));
  };
  reinterpret_cast<float4*>(factors.values)[lane] =
      make_float4(factor(sum.x), factor(sum.y), factor(sum.z), factor(sum.w));
  hopper::Arrive(factors.are_there);
}

// The factors of a thread's two tokens (panel_store.cuh), ones without a norm.
struct TokenFactors {
  float factors[2] = {1.0f, 1.0f};

  __device__ __forceinline__ void Find(const PanelGemmArgs& args,
                                       const RowFactors& rows) {
    if (args.norm_before.squares == nullptr) return;
    hopper::Wait(rows.are_there, 0);
    const int token = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    factors[0] = rows.values[token];
    factors[1] = rows.values[token + 8];
  }

  __device__ __forceinline__ void Scale(float (&sums)[16]) const {
#pragma unroll
    for (int i = 0; i < 16; ++i) sums[i] *= factors[i / 2 % 2];
  }
};

}  // namespace quire::panel

#endif  // KERNELS_CUDA_PANEL_NORM_CUH_
