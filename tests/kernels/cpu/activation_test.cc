// SPDX-License-Identifier: Apache-2.0
#include "tests/reference/activation.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

using ActivationTest = PerDtypeTest;

double Reference(ActivationKind kind, double x) {
  switch (kind) {
    case ActivationKind::kSiluMul:
      return reference::Silu(x);
    case ActivationKind::kRelu:
      return reference::Relu(x);
    case ActivationKind::kGelu:
      return reference::Gelu(x);
    case ActivationKind::kGeluTanh:
      return reference::GeluTanh(x);
  }
  return 0.0;
}

constexpr ActivationKind kUnary[] = {
    ActivationKind::kRelu, ActivationKind::kGelu, ActivationKind::kGeluTanh};

TEST_P(ActivationTest, AgreesWithTheReferenceOverTheWholeLine) {
  // Every 1/64 from -30 to 30, and far out.
  std::vector<float> points = {-1e4f, -100.0f, -88.0f, 88.0f, 100.0f, 1e4f};
  for (int i = -1920; i <= 1920; ++i) points.push_back(i / 64.0f);
  const int32_t width = points.size();
  Tensor x(GetParam(), width);
  for (int32_t i = 0; i < width; ++i) x.Set(i, points[i]);
  for (ActivationKind kind : kUnary) {
    Tensor out(GetParam(), width);
    const ActivationParams params = {kind, x.data(), out.data(), width, 1};
    ASSERT_TRUE(backend_->Activation(params).ok());
    for (int32_t i = 0; i < width; ++i) {
      const double want = Reference(kind, x[i]);
      // Within 1 + erf and 1 + e^-x errors are a few u of 1, multiplied by x;
      // a cubic's rounding shifts the sigmoid's argument y by 2 u y, and its
      // value by at most that times s (1 - s), which is below 0.25 / e y.
      const double u = UnitRoundoff(DType::kF32);
      ASSERT_NEAR(
          out[i], want,
          8 * u * std::abs(x[i]) + UnitRoundoff(GetParam()) * std::abs(want))
          << "kind " << static_cast<int>(kind) << " at " << x[i];
    }
  }
}

TEST_P(ActivationTest, SiluMulGatesTheSecondHalf) {
  for (int32_t width : {1, 7, 16, 33, 5000}) {
    const int32_t rows = 3;
    const Tensor x = Tensor::Random(GetParam(), rows * 2 * width, 1, 3.0f);
    Tensor out(GetParam(), rows * width);
    const ActivationParams params = {ActivationKind::kSiluMul, x.data(),
                                     out.data(), width, rows};
    ASSERT_TRUE(backend_->Activation(params).ok());
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t i = 0; i < width; ++i) {
        const double gate = x[row * 2 * width + i];
        const double up = x[row * 2 * width + width + i];
        const double want = reference::Silu(gate) * up;
        // Four roundings of 1 ulp each, then T's.
        ASSERT_NEAR(out[row * width + i], want,
                    (8 * UnitRoundoff(DType::kF32) + UnitRoundoff(GetParam())) *
                        std::abs(want));
      }
    }
  }
}

TEST_P(ActivationTest, WorksInPlace) {
  const Tensor x = Tensor::Random(GetParam(), 3 * 41, 2);
  for (ActivationKind kind : kUnary) {
    Tensor out(GetParam(), 3 * 41), in_place = x;
    ASSERT_TRUE(backend_->Activation({kind, x.data(), out.data(), 41, 3}).ok());
    ASSERT_TRUE(
        backend_->Activation({kind, in_place.data(), in_place.data(), 41, 3})
            .ok());
    EXPECT_TRUE(in_place.SameBits(out));
  }
}

TEST_P(ActivationTest, ARowDoesNotDependOnTheOthersNorOnThreads) {
  const int32_t width = 4099, rows = 9;
  const auto one_thread = MakeTestBackend(GetParam(), /*num_threads=*/1);
  for (ActivationKind kind :
       {ActivationKind::kSiluMul, ActivationKind::kRelu, ActivationKind::kGelu,
        ActivationKind::kGeluTanh}) {
    const int32_t in = kind == ActivationKind::kSiluMul ? 2 * width : width;
    const Tensor x = Tensor::Random(GetParam(), rows * in, 3);
    Tensor all(GetParam(), rows * width), single(GetParam(), rows * width);
    ASSERT_TRUE(
        backend_->Activation({kind, x.data(), all.data(), width, rows}).ok());
    ASSERT_TRUE(
        one_thread->Activation({kind, x.data(), single.data(), width, rows})
            .ok());
    EXPECT_TRUE(all.SameBits(single));
    for (int32_t row = 0; row < rows; ++row) {
      Tensor out(GetParam(), width);
      ASSERT_TRUE(
          backend_->Activation({kind, x.At(row * in), out.data(), width, 1})
              .ok());
      ASSERT_TRUE(out.SameBits(0, all, row * width, width));
    }
  }
}

TEST_P(ActivationTest, NoTokensAreNoWork) {
  EXPECT_TRUE(
      backend_->Activation({ActivationKind::kRelu, nullptr, nullptr, 64, 0})
          .ok());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ActivationTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
