// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/norm.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/norm.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// residual += x.
template <typename X, typename T>
void AddTo(const X* x, T* residual, int64_t width) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t i = 0; i < width; i += lanes) {
    const FloatVec sum = hn::Add(LoadUpTo(d, x + i, width - i),
                                 LoadUpTo(d, residual + i, width - i));
    StoreUpTo(sum, d, residual + i, width - i);
  }
}

template <typename X>
float Sum(const X* x, int64_t width) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  FloatVec sum = hn::Zero(d);
  for (int64_t i = 0; i < width; i += lanes) {
    sum = hn::Add(sum, LoadUpTo(d, x + i, width - i));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Sum of (x - mean)^2.
template <typename X>
float SumOfSquares(const X* x, float mean, int64_t width) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const FloatVec mean_vec = hn::Set(d, mean);
  FloatVec sum = hn::Zero(d);
  for (int64_t i = 0; i < width; i += lanes) {
    FloatVec v = hn::Sub(LoadUpTo(d, x + i, width - i), mean_vec);
    if (width - i < lanes) {  // lanes beyond the row count nothing
      v = hn::IfThenElseZero(hn::FirstN(d, width - i), v);
    }
    sum = hn::MulAdd(v, v, sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

template <typename X, typename T>
void NormRow(const NormParams& params, const X* x, T* out) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  const int64_t width = params.width;
  const float mean =
      params.kind == NormKind::kLayer ? Sum(x, width) / width : 0.0f;
  const float variance = SumOfSquares(x, mean, width) / width;
  const FloatVec scale =
      hn::Set(d, 1.0f / std::sqrt(variance + params.epsilon));
  const FloatVec mean_vec = hn::Set(d, mean);
  const T* weight = static_cast<const T*>(params.weight);
  const T* bias = static_cast<const T*>(params.bias);
  for (int64_t i = 0; i < width; i += lanes) {
    const int64_t n = width - i;
    FloatVec v = hn::Mul(hn::Sub(LoadUpTo(d, x + i, n), mean_vec), scale);
    if (weight != nullptr) v = hn::Mul(v, LoadUpTo(d, weight + i, n));
    if (bias != nullptr) v = hn::Add(v, LoadUpTo(d, bias + i, n));
    StoreUpTo(v, d, out + i, n);
  }
}

// Rows [begin, end).
template <typename X, typename T>
void NormRows(const NormParams& params, int64_t begin, int64_t end) {
  const int64_t width = params.width;
  for (int64_t r = begin; r < end; ++r) {
    const X* x = static_cast<const X*>(params.x) + params.RowStart(r);
    T* out = static_cast<T*>(params.out) + params.RowStart(r);
    if (params.residual != nullptr) {
      T* residual = static_cast<T*>(params.residual) + r * width;
      AddTo(x, residual, width);
      NormRow<T, T>(params, residual, out);
    } else {
      NormRow<X, T>(params, x, out);
    }
  }
}

void NormF32(const NormParams& params, int64_t begin, int64_t end) {
  NormRows<float, float>(params, begin, end);
}

void NormBf16(const NormParams& params, int64_t begin, int64_t end) {
  NormRows<Bf16, Bf16>(params, begin, end);
}

void NormF32Bf16(const NormParams& params, int64_t begin, int64_t end) {
  NormRows<float, Bf16>(params, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(NormF32);
HWY_EXPORT(NormBf16);
HWY_EXPORT(NormF32Bf16);

using NormFn = void (*)(const NormParams&, int64_t, int64_t);

NormFn ChooseNorm(DType x, DType t) {
  if (t == DType::kF32) return HWY_DYNAMIC_DISPATCH(NormF32);
  return x == DType::kF32 ? HWY_DYNAMIC_DISPATCH(NormF32Bf16)
                          : HWY_DYNAMIC_DISPATCH(NormBf16);
}

// Elements that are worth another thread.
constexpr int64_t kGrainElements = 16 << 10;

}  // namespace

void NormCpu(const NormParams& params, DType dtype, const ThreadTeam& team) {
  const NormFn norm = ChooseNorm(params.x_dtype, dtype);
  const int64_t grain =
      std::max<int64_t>(1, kGrainElements / std::max(1, params.width));
  team.For(params.num_tokens, grain,
           [&](int, int64_t begin, int64_t end) { norm(params, begin, end); });
}

}  // namespace quire
#endif  // HWY_ONCE
