// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/activation.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activation.cc"
#include "hwy/foreach_target.h"
// Highway: after foreach_target.h
#include "kernels/cpu/vec-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quire {
namespace HWY_NAMESPACE {

// x * sigmoid(y), which is silu(x) for y = x.
HWY_INLINE FloatVec MulSigmoid(FloatTag d, FloatVec x, FloatVec y) {
  const FloatVec one = hn::Set(d, 1.0f);
  return hn::Div(x, hn::Add(one, ExpClamped(d, hn::Neg(y))));
}

// The error function: minimax polynomials in x^2 near zero and in |x| inside
// 1 - e^(-p(|x|)) further out. Within 2 ulp of erf over all floats.
HWY_INLINE FloatVec Erf(FloatTag d, FloatVec x) {
  const auto c = [d](float value) { return hn::Set(d, value); };
  const FloatVec t = hn::Abs(x);
  const FloatVec s = hn::Mul(x, x);
  FloatVec far = hn::MulAdd(c(-1.72853470e-5f), t, c(3.83197126e-4f));
  const FloatVec u = hn::MulAdd(c(-3.88396438e-3f), t, c(2.42546219e-2f));
  far = hn::MulAdd(far, s, u);
  far = hn::MulAdd(far, t, c(-1.06777877e-1f));
  far = hn::MulAdd(far, t, c(-6.34846687e-1f));
  far = hn::MulAdd(far, t, c(-1.28717512e-1f));
  far = hn::MulAdd(far, t, hn::Neg(t));
  far = hn::CopySign(hn::Sub(c(1.0f), ExpClamped(d, far)), x);
  FloatVec near = hn::MulAdd(c(-5.96761703e-4f), s, c(4.99119423e-3f));
  near = hn::MulAdd(near, s, c(-2.67681349e-2f));
  near = hn::MulAdd(near, s, c(1.12819925e-1f));
  near = hn::MulAdd(near, s, c(-3.76125336e-1f));
  near = hn::MulAdd(near, s, c(1.28379166e-1f));
  near = hn::MulAdd(near, x, x);
  return hn::IfThenElse(hn::Gt(t, c(0.927734375f)), far, near);
}

template <ActivationKind kKind>
HWY_INLINE FloatVec Activate(FloatTag d, FloatVec x) {
  const auto c = [d](float value) { return hn::Set(d, value); };
  switch (kKind) {
    case ActivationKind::kSiluMul:
      return MulSigmoid(d, x, x);
    case ActivationKind::kRelu:
      return hn::Max(x, hn::Zero(d));
    case ActivationKind::kGelu: {
      const FloatVec erf = Erf(d, hn::Mul(x, c(0.70710678118654752f)));
      return hn::Mul(hn::Mul(c(0.5f), x), hn::Add(c(1.0f), erf));
    }
    case ActivationKind::kGeluTanh: {
      // (1 + tanh(u)) / 2 = sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
      const FloatVec cubic =
          hn::MulAdd(hn::Mul(hn::Mul(x, x), x), c(0.044715f), x);
      return MulSigmoid(d, x, hn::Mul(cubic, c(1.5957691216057308f)));
    }
  }
}

// out = f(x), times `up` for kSiluMul, over `width` elements.
template <ActivationKind kKind, typename T>
void ActivateSpan(const T* x, const T* up, T* out, int64_t width) {
  const FloatTag d;
  const int64_t lanes = hn::Lanes(d);
  for (int64_t i = 0; i < width; i += lanes) {
    const int64_t n = width - i;
    FloatVec v = Activate<kKind>(d, LoadUpTo(d, x + i, n));
    if constexpr (kKind == ActivationKind::kSiluMul) {
      v = hn::Mul(v, LoadUpTo(d, up + i, n));
    }
    StoreUpTo(v, d, out + i, n);
  }
}

template <typename T>
void ActivateAny(ActivationKind kind, const void* x_void, const void* up_void,
                 void* out_void, int64_t width) {
  const T* x = static_cast<const T*>(x_void);
  const T* up = static_cast<const T*>(up_void);
  T* out = static_cast<T*>(out_void);
  switch (kind) {
    case ActivationKind::kSiluMul:
      return ActivateSpan<ActivationKind::kSiluMul>(x, up, out, width);
    case ActivationKind::kRelu:
      return ActivateSpan<ActivationKind::kRelu>(x, up, out, width);
    case ActivationKind::kGelu:
      return ActivateSpan<ActivationKind::kGelu>(x, up, out, width);
    case ActivationKind::kGeluTanh:
      return ActivateSpan<ActivationKind::kGeluTanh>(x, up, out, width);
  }
}

void ActivateF32(ActivationKind kind, const void* x, const void* up, void* out,
                 int64_t width) {
  ActivateAny<float>(kind, x, up, out, width);
}

void ActivateBf16(ActivationKind kind, const void* x, const void* up, void* out,
                  int64_t width) {
  ActivateAny<Bf16>(kind, x, up, out, width);
}

}  // namespace HWY_NAMESPACE
}  // namespace quire
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quire {
namespace {

HWY_EXPORT(ActivateF32);
HWY_EXPORT(ActivateBf16);

// Columns in one piece of work: a few microseconds.
constexpr int64_t kColumns = 4096;

}  // namespace

void ActivationCpu(const ActivationParams& params, DType dtype,
                   const ThreadTeam& team) {
  const auto activate = dtype == DType::kF32
                            ? HWY_DYNAMIC_DISPATCH(ActivateF32)
                            : HWY_DYNAMIC_DISPATCH(ActivateBf16);
  const int64_t size = SizeOf(dtype);
  const int64_t width = params.width;
  const bool gated = params.kind == ActivationKind::kSiluMul;
  const int64_t pieces_per_row = (width + kColumns - 1) / kColumns;
  team.For(params.num_tokens * pieces_per_row, /*grain=*/2,
           [&](int, int64_t begin, int64_t end) {
             for (int64_t piece = begin; piece < end; ++piece) {
               const int64_t row = piece / pieces_per_row;
               const int64_t column = piece % pieces_per_row * kColumns;
               const char* x = static_cast<const char*>(params.x) +
                               (row * width * (gated ? 2 : 1) + column) * size;
               char* out = static_cast<char*>(params.out) +
                           (row * width + column) * size;
               activate(params.kind, x, x + width * size, out,
                        std::min(kColumns, width - column));
             }
           });
}

}  // namespace quire
#endif  // HWY_ONCE
