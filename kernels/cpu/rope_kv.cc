// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/rope_kv.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rope_kv.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// Rotates one head from `in` to `out`, which may be the same: element i with
// i + rotary_dim / 2 by the angle whose cosine and sine are given.
template <typename T>
void RotateHead(const T* in, T* out, const float* cos, int32_t rotary_dim,
                int32_t head_dim) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const int64_t half = rotary_dim / 2;
  const float* sin = cos + half;
  for (int64_t i = 0; i < half; i += lanes) {
    const int64_t n = half - i;
    const FloatVec a = LoadUpTo(d, in + i, n);
    const FloatVec b = LoadUpTo(d, in + half + i, n);
    const FloatVec c = LoadUpTo(d, cos + i, n);
    const FloatVec s = LoadUpTo(d, sin + i, n);
    StoreUpTo(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, out + i, n);
    StoreUpTo(hn::MulAdd(a, s, hn::Mul(b, c)), d, out + half + i, n);
  }
  if (in != out && rotary_dim < head_dim) {
    std::memcpy(out + rotary_dim, in + rotary_dim,
                (head_dim - rotary_dim) * sizeof(T));
  }
}

// One token: rotates its queries, and writes its keys and values to `slot`.
template <typename T>
void RopeWriteToken(const RopeWriteKvParams& params, int32_t token,
                    int32_t slot) {
  const KvLayout& layout = params.cache.layout;
  const int64_t head_dim = layout.head_dim;
  const bool rotate = params.cos_sin != nullptr && params.rotary_dim > 0;
  const float* cos = rotate
                         ? params.cos_sin + int64_t{params.positions[token]} *
                                                params.rotary_dim
                         : nullptr;
  T* q = static_cast<T*>(params.qkv) + token * params.qkv_stride;
  if (rotate) {
    for (int32_t h = 0; h < params.num_q_heads; ++h) {
      T* head = q + h * head_dim;
      RotateHead(head, head, cos, params.rotary_dim, layout.head_dim);
    }
  }
  const T* k = q + params.num_q_heads * head_dim;
  const T* v = k + layout.num_kv_heads * head_dim;
  T* k_out = static_cast<T*>(params.cache.base) +
             slot / layout.block_size * layout.BlockStride() +
             params.cache.layer_idx * layout.LayerStride() +
             slot % layout.block_size * layout.TokenStride();
  T* v_out = k_out + layout.HeadsStride();
  for (int32_t h = 0; h < layout.num_kv_heads; ++h) {
    const int64_t to = h * layout.HeadStride();
    if (rotate) {
      RotateHead(k + h * head_dim, k_out + to, cos, params.rotary_dim,
                 layout.head_dim);
    } else {
      std::memcpy(k_out + to, k + h * head_dim, head_dim * sizeof(T));
    }
    std::memcpy(v_out + to, v + h * head_dim, head_dim * sizeof(T));
  }
}

template <typename T>
void RopeWriteTokens(const RopeWriteKvParams& params, int64_t begin,
                     int64_t end) {
  for (int64_t token = begin; token < end; ++token) {
    const int32_t slot = params.slot_mapping[token];
    if (slot >= 0) RopeWriteToken<T>(params, token, slot);
  }
}

void RopeWriteF32(const RopeWriteKvParams& params, int64_t begin, int64_t end) {
  RopeWriteTokens<float>(params, begin, end);
}

void RopeWriteBf16(const RopeWriteKvParams& params, int64_t begin,
                   int64_t end) {
  RopeWriteTokens<Bf16>(params, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(RopeWriteF32);
HWY_EXPORT(RopeWriteBf16);

// Elements that are worth another thread.
constexpr int64_t kGrainElements = 16 << 10;

}  // namespace

void RopeWriteKvCpu(const RopeWriteKvParams& params, const ThreadTeam& team) {
  const auto write = params.cache.layout.dtype == DType::kF32
                         ? HWY_DYNAMIC_DISPATCH(RopeWriteF32)
                         : HWY_DYNAMIC_DISPATCH(RopeWriteBf16);
  const int64_t grain = std::max<int64_t>(
      1, kGrainElements / std::max<int64_t>(1, params.qkv_stride));
  team.For(params.num_tokens, grain,
           [&](int, int64_t begin, int64_t end) { write(params, begin, end); });
}

}  // namespace quire
#endif  // HWY_ONCE
