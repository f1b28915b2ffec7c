// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/key_bounds.h"

#include <algorithm>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/key_bounds.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// The bounds of one block's keys, for all heads of the layer.
template <typename T>
void BoundBlock(const KvCacheView& cache, int64_t block) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const KvLayout& layout = cache.layout;
  const int64_t head_dim = layout.head_dim;
  T* base = static_cast<T*>(cache.base) + block * layout.BlockStride();
  for (int32_t head = 0; head < layout.num_kv_heads; ++head) {
    const T* keys = base + cache.layer_idx * layout.LayerStride() +
                    head * layout.HeadStride();
    T* bounds = base + layout.KeyBoundsOffset(cache.layer_idx, head);
    for (int64_t e = 0; e < head_dim; e += lanes) {
      const int64_t n = head_dim - e;
      FloatVec least = LoadUpTo(d, keys + e, n);
      FloatVec greatest = least;
      FloatVec sum = least;  // NaN as soon as a key is, which Min would lose
      for (int32_t i = 1; i < layout.block_size; ++i) {
        const FloatVec key = LoadUpTo(d, keys + i * head_dim + e, n);
        least = hn::Min(least, key);
        greatest = hn::Max(greatest, key);
        sum = hn::Add(sum, key);
      }
      const auto is_nan = hn::IsNaN(sum);
      least = hn::IfThenElse(is_nan, sum, least);
      greatest = hn::IfThenElse(is_nan, sum, greatest);
      StoreUpTo(least, d, bounds + e, n);
      StoreUpTo(greatest, d, bounds + head_dim + e, n);
    }
  }
}

template <typename T>
void BoundFilled(const UpdateKeyBoundsParams& params, int64_t begin,
                 int64_t end) {
  const int32_t block_size = params.cache.layout.block_size;
  for (int64_t token = begin; token < end; ++token) {
    const int32_t slot = params.slot_mapping[token];
    if (slot < 0 || slot % block_size != block_size - 1) continue;
    BoundBlock<T>(params.cache, slot / block_size);
  }
}

void BoundFilledF32(const UpdateKeyBoundsParams& params, int64_t begin,
                    int64_t end) {
  BoundFilled<float>(params, begin, end);
}

void BoundFilledBf16(const UpdateKeyBoundsParams& params, int64_t begin,
                     int64_t end) {
  BoundFilled<Bf16>(params, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(BoundFilledF32);
HWY_EXPORT(BoundFilledBf16);

// Elements that are worth another thread.
constexpr int64_t kGrainElements = 16 << 10;

}  // namespace

void UpdateKeyBoundsCpu(const UpdateKeyBoundsParams& params,
                        const ThreadTeam& team) {
  const KvLayout& layout = params.cache.layout;
  const auto bound = layout.dtype == DType::kF32
                         ? HWY_DYNAMIC_DISPATCH(BoundFilledF32)
                         : HWY_DYNAMIC_DISPATCH(BoundFilledBf16);
  // A token's share of the block that it may fill.
  const int64_t grain = std::max<int64_t>(
      1, kGrainElements / (int64_t{layout.num_kv_heads} * layout.head_dim));
  team.For(params.num_tokens, grain,
           [&](int, int64_t begin, int64_t end) { bound(params, begin, end); });
}

}  // namespace quire
#endif  // HWY_ONCE
