// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/overlapped_launch.cuh"
#include "kernels/cuda/rope_kv.h"
#include "kernels/cuda/vector.cuh"

namespace quire {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kThreads = 128;

// A token's work, cut into pieces of kCount elements (pairs, where rotated):
// queries' pairs, keys' pairs, keys' elements that are not rotated, values.
struct Pieces {
  int32_t per_half;       // pieces of a head's rotated pairs
  int32_t per_rest;       // of a head's elements beyond rotary_dim
  int32_t per_head;       // of a whole head
  int32_t q, k, rest, v;  // ends, counted from 0
};

template <int kCount>
Pieces PiecesOf(const RopeWriteKvParams& params, int32_t rotary_dim) {
  const KvLayout& layout = params.cache.layout;
  Pieces p;
  p.per_half = rotary_dim / 2 / kCount;
  p.per_rest = (layout.head_dim - rotary_dim) / kCount;
  p.per_head = layout.head_dim / kCount;
  p.q = params.num_q_heads * p.per_half;
  p.k = p.q + layout.num_kv_heads * p.per_half;
  p.rest = p.k + layout.num_kv_heads * p.per_rest;
  p.v = p.rest + layout.num_kv_heads * p.per_head;
  return p;
}

// Cosines and sines of neighbouring pairs.
template <int kCount>
struct Angles {
  float cos[kCount], sin[kCount];
};

template <typename T, int kCount>
__device__ __forceinline__ void Rotate(const T* in, T* low_out, T* high_out,
                                       const Angles<kCount>& angles,
                                       int32_t half) {
  float a[kCount], b[kCount];
  cuda::Load(in, a);
  cuda::Load(in + half, b);
  float low[kCount], high[kCount];
#pragma unroll
  for (int j = 0; j < kCount; ++j) {
    low[j] = fmaf(-b[j], angles.sin[j], a[j] * angles.cos[j]);
    high[j] = fmaf(a[j], angles.sin[j], b[j] * angles.cos[j]);
  }
  cuda::Store(low, low_out);
  cuda::Store(high, high_out);
}

template <typename T, int kCount>
__device__ __forceinline__ void Copy(const T* in, T* out) {
  if constexpr (kCount * sizeof(T) == 16) {
    *reinterpret_cast<uint4*>(out) = *reinterpret_cast<const uint4*>(in);
  } else {
#pragma unroll
    for (int j = 0; j < kCount; ++j) out[j] = in[j];
  }
}

template <typename T, int kCount>
__global__ void __launch_bounds__(kThreads)
    RopeWriteKvKernel(const __grid_constant__ RopeWriteKvParams params,
                      const __grid_constant__ Pieces pieces, int32_t rotary_dim,
                      bool is_known) {
  LetNextKernelBegin();
  if (!is_known) WaitForEarlierKernels();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t token = static_cast<int32_t>(index / pieces.v);
  if (token >= params.num_tokens) return;
  const int32_t slot = params.slot_mapping[token];
  int32_t piece = static_cast<int32_t>(index - int64_t{token} * pieces.v);

  const KvLayout& layout = params.cache.layout;
  const int64_t head_dim = layout.head_dim;
  const int32_t half = rotary_dim / 2;
  T* q = static_cast<T*>(params.qkv) + token * params.qkv_stride;
  const T* k = q + params.num_q_heads * head_dim;
  const T* v = k + layout.num_kv_heads * head_dim;
  const int32_t block = slot / layout.block_size;
  const int32_t in_block = slot - block * layout.block_size;
  T* k_out = static_cast<T*>(params.cache.base) + block * layout.BlockStride() +
             params.cache.layer_idx * layout.LayerStride();
  // Of the token's key; its value lies HeadsStride() further.
  const auto place = [&](int32_t head, int32_t at) {
    return k_out + head * layout.HeadStride() +
           layout.ElementOffset(in_block, at);
  };
  const int32_t in_heads = piece < pieces.q ? piece : piece - pieces.q;
  const bool is_rotated = piece < pieces.k;
  const int32_t head_of_pairs = is_rotated ? in_heads / pieces.per_half : 0;
  const int32_t pair = (in_heads - head_of_pairs * pieces.per_half) * kCount;
  Angles<kCount> angles;
  if (is_rotated && slot >= 0) {
    const float* cos =
        params.cos_sin + int64_t{params.positions[token]} * rotary_dim + pair;
    cuda::Load(cos, angles.cos);
    cuda::Load(cos + half, angles.sin);
  }
  if (is_known) WaitForEarlierKernels();
  if (slot < 0) return;
  if (piece < pieces.q) {
    T* in = q + head_of_pairs * head_dim + pair;
    Rotate<T, kCount>(in, in, in + half, angles, half);
  } else if (piece < pieces.k) {
    Rotate<T, kCount>(k + head_of_pairs * head_dim + pair,
                      place(head_of_pairs, pair),
                      place(head_of_pairs, pair + half), angles, half);
  } else if (piece < pieces.rest) {
    piece -= pieces.k;
    const int32_t head = piece / pieces.per_rest;
    const int32_t at = rotary_dim + (piece - head * pieces.per_rest) * kCount;
    Copy<T, kCount>(k + head * head_dim + at, place(head, at));
  } else {
    piece -= pieces.rest;
    const int32_t head = piece / pieces.per_head;
    const int32_t at = (piece - head * pieces.per_head) * kCount;
    Copy<T, kCount>(v + head * head_dim + at,
                    place(head, at) + layout.HeadsStride());
  }
}

template <typename T>
cudaError_t Launch(const RopeWriteKvParams& params, bool is_known,
                   cudaStream_t stream) {
  const KvLayout& layout = params.cache.layout;
  const int32_t rotary_dim = params.cos_sin == nullptr ? 0 : params.rotary_dim;
  const auto launch = [&]<int kCount>(std::integral_constant<int, kCount>) {
    const Pieces pieces = PiecesOf<kCount>(params, rotary_dim);
    const int64_t items = int64_t{params.num_tokens} * pieces.v;
    if (items == 0) return cudaSuccess;
    return LaunchOverlapped(
        RopeWriteKvKernel<T, kCount>,
        dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)),
        dim3(kThreads), 0, stream, params, pieces, rotary_dim, is_known);
  };
  constexpr int kWide = cuda::kLanes<T>;
  if (rotary_dim % (2 * kWide) == 0 && layout.head_dim % kWide == 0 &&
      params.qkv_stride % kWide == 0 && layout.BlockStride() % kWide == 0 &&
      cuda::IsAligned16(params.qkv) && cuda::IsAligned16(params.cos_sin) &&
      cuda::IsAligned16(params.cache.base)) {
    return launch(std::integral_constant<int, kWide>());
  }
  return launch(std::integral_constant<int, 1>());
}

}  // namespace

cudaError_t LaunchRopeWriteKvCuda(const RopeWriteKvParams& params,
                                  bool is_known, cudaStream_t stream) {
  if (params.num_tokens <= 0) return cudaSuccess;
  return params.cache.layout.dtype == DType::kF32
             ? Launch<float>(params, is_known, stream)
             : Launch<Bf16>(params, is_known, stream);
}

}  // namespace quire
