// SPDX-License-Identifier: Apache-2.0
#include "tests/reference/norm.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

using NormTest = PerDtypeTest;

constexpr float kEpsilon = 1e-5f;

NormParams Params(NormKind kind, const Tensor& x, Tensor* out, int32_t width,
                  int32_t num_tokens) {
  NormParams params = {};
  params.kind = kind;
  params.x = x.data();
  params.x_dtype = x.dtype();
  params.out = out->data();
  params.epsilon = kEpsilon;
  params.width = width;
  params.num_tokens = num_tokens;
  return params;
}

// Mean and variance are sums of up to 16 lanes of width / 16 terms each: their
// relative error is at most (width / 4 + 8) u (a quarter: four lanes at least),
// u = 2^-24. A handful of roundings follow; results are below 10 + |bias|.
// Storing rounds to T.
double Tolerance(double want, int32_t width, DType dtype) {
  return (width / 4 + 16) * UnitRoundoff(DType::kF32) *
             (std::abs(want) + 10.0) +
         UnitRoundoff(dtype) * std::abs(want);
}

TEST_P(NormTest, AgreesWithTheReferenceAtOddWidths) {
  for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
    for (int32_t width : {1, 3, 8, 17, 64, 100, 2048}) {
      for (DType x_dtype : {GetParam(), DType::kF32}) {
        for (bool affine : {false, true}) {
          SCOPED_TRACE(testing::Message() << "width " << width);
          const int32_t rows = 3;
          const Tensor x = Tensor::Random(x_dtype, rows * width, 1, 2.0f);
          const Tensor weight = Tensor::Random(GetParam(), width, 2);
          const Tensor bias = Tensor::Random(GetParam(), width, 3);
          Tensor out(GetParam(), rows * width);
          NormParams params = Params(kind, x, &out, width, rows);
          if (affine) {
            params.weight = weight.data();
            params.bias = bias.data();
          }
          ASSERT_TRUE(backend_->Norm(params).ok());
          for (int32_t row = 0; row < rows; ++row) {
            const auto want = reference::Norm(
                x.Doubles(row * width, width),
                affine ? weight.Doubles() : std::vector<double>(),
                affine ? bias.Doubles() : std::vector<double>(), kEpsilon,
                kind == NormKind::kLayer);
            for (int32_t i = 0; i < width; ++i) {
              ASSERT_NEAR(out[row * width + i], want[i],
                          Tolerance(want[i], width, GetParam()));
            }
          }
        }
      }
    }
  }
}

TEST_P(NormTest, AddsToTheResidualRoundedOnceAndNormalisesThat) {
  const int32_t width = 77, rows = 4;
  for (DType x_dtype : {GetParam(), DType::kF32}) {
    const Tensor x = Tensor::Random(x_dtype, rows * width, 4);
    const Tensor before = Tensor::Random(GetParam(), rows * width, 5);
    Tensor residual = before;
    Tensor out(GetParam(), rows * width);
    NormParams params = Params(NormKind::kRms, x, &out, width, rows);
    params.residual = residual.data();
    ASSERT_TRUE(backend_->Norm(params).ok());
    for (int32_t i = 0; i < rows * width; ++i) {
      const float sum =
          static_cast<float>(x[i]) + static_cast<float>(before[i]);
      ASSERT_EQ(residual[i],
                GetParam() == DType::kF32 ? sum : ToFloat(ToBf16(sum)));
    }
    for (int32_t row = 0; row < rows; ++row) {
      const auto want = reference::Norm(residual.Doubles(row * width, width),
                                        {}, {}, kEpsilon, false);
      for (int32_t i = 0; i < width; ++i) {
        ASSERT_NEAR(out[row * width + i], want[i],
                    Tolerance(want[i], width, GetParam()));
      }
    }
  }
}

TEST_P(NormTest, OutMayAliasXOrTheResidual) {
  const int32_t width = 50, rows = 3;
  const Tensor x = Tensor::Random(GetParam(), rows * width, 6);
  const Tensor residual = Tensor::Random(GetParam(), rows * width, 7);
  Tensor want(GetParam(), rows * width), sum = residual;
  NormParams params = Params(NormKind::kLayer, x, &want, width, rows);
  params.residual = sum.data();
  ASSERT_TRUE(backend_->Norm(params).ok());

  Tensor over_x = x, residual_2 = residual;
  params.x = params.out = over_x.data();
  params.residual = residual_2.data();
  ASSERT_TRUE(backend_->Norm(params).ok());
  EXPECT_TRUE(over_x.SameBits(want));
  EXPECT_TRUE(residual_2.SameBits(sum));

  Tensor over_residual = residual;
  params.x = x.data();
  params.residual = params.out = over_residual.data();
  ASSERT_TRUE(backend_->Norm(params).ok());
  EXPECT_TRUE(over_residual.SameBits(want));
}

TEST_P(NormTest, ARowDoesNotDependOnTheOthersNorOnThreads) {
  const int32_t width = 1000, rows = 65;
  const Tensor x = Tensor::Random(GetParam(), rows * width, 8);
  const auto one_thread = MakeTestBackend(GetParam(), /*num_threads=*/1);
  for (NormKind kind : {NormKind::kRms, NormKind::kLayer}) {
    Tensor all(GetParam(), rows * width), single(GetParam(), rows * width);
    ASSERT_TRUE(backend_->Norm(Params(kind, x, &all, width, rows)).ok());
    ASSERT_TRUE(one_thread->Norm(Params(kind, x, &single, width, rows)).ok());
    EXPECT_TRUE(all.SameBits(single));
    for (int32_t row = 0; row < rows; ++row) {
      Tensor out(GetParam(), width);
      NormParams params = Params(kind, x, &out, width, 1);
      params.x = x.At(row * width);
      ASSERT_TRUE(backend_->Norm(params).ok());
      ASSERT_TRUE(out.SameBits(0, all, row * width, width)) << "row " << row;
    }
  }
}

TEST_P(NormTest, NormsSomeHeadsOfEachTokenWhereTheyAre) {
  const int32_t tokens = 5, heads = 3, first = 2;
  for (int32_t dim : {6, 16, 128}) {
    const int32_t stride = 8 * dim;  // of which heads [first, first + heads)
    const Tensor before = Tensor::Random(GetParam(), tokens * stride, 9);
    const Tensor weight = Tensor::Random(GetParam(), dim, 10);
    // Ends with the last row, as what is behind it is not its own.
    const int32_t end = (tokens - 1) * stride + (first + heads) * dim;
    Tensor all(GetParam(), end);
    for (int32_t i = 0; i < end; ++i) {
      all.Set(i, static_cast<float>(before[i]));
    }
    NormParams params = {};
    params.kind = NormKind::kRms;
    params.x = params.out = all.At(first * dim);
    params.x_dtype = GetParam();
    params.weight = weight.data();
    params.epsilon = kEpsilon;
    params.width = dim;
    params.num_tokens = tokens * heads;
    params.rows_per_group = heads;
    params.group_stride = stride;
    ASSERT_TRUE(backend_->Norm(params).ok());
    for (int32_t head = 0; head < end / dim; ++head) {
      const bool is_normed = head % 8 >= first && head % 8 < first + heads;
      const auto want =
          reference::Norm(before.Doubles(head * dim, dim), weight.Doubles(), {},
                          kEpsilon, /*subtract_mean=*/false);
      for (int32_t i = 0; i < dim; ++i) {
        const int32_t at = head * dim + i;
        if (is_normed) {
          ASSERT_NEAR(all[at], want[i], Tolerance(want[i], dim, GetParam()));
        } else {
          ASSERT_EQ(all[at], before[at]) << "head " << head;
        }
      }
    }
  }
}

TEST_P(NormTest, NoTokensAreNoWork) {
  Tensor none(GetParam(), 0);
  EXPECT_TRUE(backend_->Norm(Params(NormKind::kRms, none, &none, 64, 0)).ok());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, NormTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
