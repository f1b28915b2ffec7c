// SPDX-License-Identifier: Apache-2.0
//
// Loads and stores of either model dtype as vectors of float, for files that
// Highway compiles once per instruction set. A short last vector goes through
// a buffer, so that no byte beyond a row is touched, and through the same
// arithmetic as a whole one.

// Per-target include guard.
#if defined(KERNELS_CPU_VEC_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KERNELS_CPU_VEC_INL_H_
#undef KERNELS_CPU_VEC_INL_H_
#else
#define KERNELS_CPU_VEC_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/cpu/bf16.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

HWY_INLINE FloatVec LoadFloats(FloatTag d, const float* p) {
  return hn::LoadU(d, p);
}

HWY_INLINE FloatVec LoadFloats(FloatTag d, const Bf16* p) {
  const hn::Rebind<uint16_t, FloatTag> d16;
  const hn::RebindToUnsigned<FloatTag> d32;
  const auto half = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(p));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, half)));
}

HWY_INLINE void StoreFloats(FloatVec v, FloatTag d, float* p) {
  hn::StoreU(v, d, p);
}

// Rounds to nearest, ties to even; NaN stays NaN.
HWY_INLINE void StoreFloats(FloatVec v, FloatTag, Bf16* p) {
  const hn::Rebind<uint16_t, FloatTag> d16;
  const hn::RebindToUnsigned<FloatTag> d32;
  const hn::RebindToSigned<FloatTag> di32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fff)), odd);
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000));
  const auto nan = hn::RebindMask(d32, hn::IsNaN(v));
  const auto upper = hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, upper)), d16,
             reinterpret_cast<uint16_t*>(p));
}

// The first `count` lanes, zeros after them. REQUIRES: count > 0.
template <typename T>
HWY_INLINE FloatVec LoadUpTo(FloatTag d, const T* p, int64_t count) {
  const int64_t lanes = hn::Lanes(d);
  if (HWY_LIKELY(count >= lanes)) return LoadFloats(d, p);
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t i = 0; i < count; ++i) part[i] = p[i];
  return LoadFloats(d, part);
}

template <typename T>
HWY_INLINE void StoreUpTo(FloatVec v, FloatTag d, T* p, int64_t count) {
  const int64_t lanes = hn::Lanes(d);
  if (HWY_LIKELY(count >= lanes)) {
    StoreFloats(v, d, p);
    return;
  }
  HWY_ALIGN T part[HWY_MAX_BYTES / sizeof(float)];
  StoreFloats(v, d, part);
  for (int64_t i = 0; i < count; ++i) p[i] = part[i];
}

// e^x to 1 ulp; x is clamped to [-104, 88], where the result is a finite float.
HWY_INLINE FloatVec ExpClamped(FloatTag d, FloatVec x) {
  return hn::Exp(d,
                 hn::Min(hn::Max(x, hn::Set(d, -104.0f)), hn::Set(d, 88.0f)));
}

// e^x for x <= 0, to 2 ulp; 0 below -86.5, near where the result would be
// denormal. Half the work of hn::Exp, whose polynomial this is: no case is left
// to handle, and the exponent is set in one step.
HWY_INLINE FloatVec ExpOfNegative(FloatTag d, FloatVec x) {
  const hn::RebindToSigned<FloatTag> di;
  const auto c = [d](float value) { return hn::Set(d, value); };
  const FloatVec low = c(-86.5f);
  const FloatVec clamped = hn::Max(x, low);
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
  const FloatVec magic = c(12582912.0f);
  const FloatVec shifted = hn::MulAdd(clamped, c(1.44269504088896341f), magic);
  const FloatVec q = hn::Sub(shifted, magic);
  FloatVec r = hn::MulAdd(q, c(-0.693145751953125f), clamped);
  r = hn::MulAdd(q, c(-1.428606765330187045e-6f), r);
  FloatVec p =
      hn::MulAdd(r, c(0.000198527617612853646f), c(0.00139304355252534151f));
  p = hn::MulAdd(p, r, c(0.00833336077630519867f));
  p = hn::MulAdd(p, r, c(0.0416664853692054749f));
  p = hn::MulAdd(p, r, c(0.166666671633720398f));
  p = hn::MulAdd(p, r, c(0.5f));
  p = hn::MulAdd(hn::Mul(p, r), r, r);
  p = hn::Add(p, c(1.0f));
  const auto scaled =
      hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenElseZero(hn::Ge(x, low), hn::BitCast(d, scaled));
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
