// SPDX-License-Identifier: Apache-2.0
//
// Both products (packed panels, oneDNN) against the reference, and the rule
// that a row's result depends on that row alone.
#include "tests/reference/gemm.h"

#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cpu/backends.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

class GemmTest : public testing::TestWithParam<std::tuple<DType, CpuGemmKind>> {
 protected:
  std::unique_ptr<Backend> Make(int num_threads) {
    return MakeCpuBackend(dtype_, num_threads, std::get<1>(GetParam()));
  }

  std::unique_ptr<PackedWeight> Pack(const Tensor& w, int64_t n, int64_t k) {
    return Pack(backend_.get(), w, n, k);
  }

  static std::unique_ptr<PackedWeight> Pack(Backend* backend, const Tensor& w,
                                            int64_t n, int64_t k) {
    const HostMatrix matrix = {w.data(), w.dtype(), n, k, k};
    auto packed = backend->PackWeight({matrix});
    CHECK(packed.ok()) << packed.status();
    return *std::move(packed);
  }

  // The product of rows [begin, begin + m) of x.
  static Tensor Multiply(Backend* backend, const Tensor& x, int64_t begin,
                         int32_t m, const PackedWeight& weight, DType y_dtype) {
    Tensor y(y_dtype, m * weight.n());
    const GemmParams params = {.x = x.At(begin * weight.k()),
                               .x_stride = weight.k(),
                               .weight = &weight,
                               .bias = nullptr,
                               .y = y.data(),
                               .y_stride = weight.n(),
                               .y_dtype = y_dtype,
                               .m = m};
    const absl::Status status = backend->Gemm(params);
    EXPECT_TRUE(status.ok()) << status;
    return y;
  }

  // Adding k products one by one in float errs by at most k u times the sum of
  // their magnitudes (Higham, section 3.1), u = 2^-24; products of bfloat16
  // are exact, those of float fused. AVX512_BF16 and oneDNN's bfloat16 flush
  // denormals, far below all this. Storing rounds once more.
  static double Tolerance(double y, double magnitude, int64_t k,
                          DType y_dtype) {
    return (k + 2) * UnitRoundoff(DType::kF32) * magnitude +
           UnitRoundoff(y_dtype) * std::abs(y) + 1e-37;
  }

  const DType dtype_ = std::get<0>(GetParam());
  std::unique_ptr<Backend> backend_ = Make(/*num_threads=*/2);
};

TEST_P(GemmTest, AgreesWithTheReferenceAtOddSizes) {
  const int64_t kSizes[][3] = {{1, 1, 1},     {1, 31, 7},     {2, 33, 64},
                               {3, 32, 129},  {5, 100, 63},   {12, 65, 256},
                               {13, 64, 257}, {33, 130, 515}, {70, 17, 300}};
  for (const auto& [m, n, k] : kSizes) {
    for (DType y_dtype : {dtype_, DType::kF32}) {
      SCOPED_TRACE(testing::Message() << "m " << m << " n " << n << " k " << k);
      const Tensor x = Tensor::Random(dtype_, m * k, 1);
      const Tensor w = Tensor::Random(dtype_, n * k, 2);
      const auto want = reference::Gemm(x.Doubles(), w.Doubles(), {}, m, n, k);
      const auto weight = Pack(w, n, k);
      const Tensor y = Multiply(backend_.get(), x, 0, m, *weight, y_dtype);
      for (int64_t i = 0; i < m * n; ++i) {
        ASSERT_NEAR(y[i], want.y[i],
                    Tolerance(want.y[i], want.magnitude[i], k, y_dtype))
            << "row " << i / n << " column " << i % n;
      }
    }
  }
}

TEST_P(GemmTest, AddsTheBiasAndKeepsToItsStrides) {
  const int64_t m = 7, n = 45, k = 50, x_stride = 61, y_stride = 53;
  const Tensor x = Tensor::Random(dtype_, m * x_stride, 3);
  const Tensor w = Tensor::Random(dtype_, n * k, 4);
  const Tensor bias = Tensor::Random(dtype_, n, 5);
  const auto weight = Pack(w, n, k);
  Tensor y(dtype_, m * y_stride);
  const GemmParams params = {.x = x.data(),
                             .x_stride = x_stride,
                             .weight = weight.get(),
                             .bias = bias.data(),
                             .y = y.data(),
                             .y_stride = y_stride,
                             .y_dtype = dtype_,
                             .m = m};
  ASSERT_TRUE(backend_->Gemm(params).ok());
  for (int64_t row = 0; row < m; ++row) {
    const auto want = reference::Gemm(x.Doubles(row * x_stride, k), w.Doubles(),
                                      bias.Doubles(), 1, n, k);
    for (int64_t column = 0; column < y_stride; ++column) {
      const double got = y[row * y_stride + column];
      if (column >= n) {
        ASSERT_TRUE(std::isnan(got)) << "wrote beyond row " << row;
        continue;
      }
      ASSERT_NEAR(got, want.y[column],
                  Tolerance(want.y[column], want.magnitude[column], k, dtype_));
    }
  }
}

TEST_P(GemmTest, StacksSlicesOfOtherDtypes) {
  // Two slices of wider matrices, one of each dtype, one above the other.
  const int64_t k = 37, stride = 50;
  const int64_t rows[2] = {21, 40};
  const Tensor top = Tensor::Random(DType::kF32, rows[0] * stride, 6);
  const Tensor low = Tensor::Random(DType::kBf16, rows[1] * stride, 7);
  const HostMatrix stack[] = {{top.At(5), DType::kF32, rows[0], k, stride},
                              {low.At(9), DType::kBf16, rows[1], k, stride}};
  auto weight = backend_->PackWeight(stack);
  ASSERT_TRUE(weight.ok()) << weight.status();
  ASSERT_EQ((*weight)->n(), 61);
  ASSERT_EQ((*weight)->k(), k);
  std::vector<double> w;
  for (int64_t row = 0; row < 61; ++row) {
    for (int64_t i = 0; i < k; ++i) {
      const double value = row < rows[0]
                               ? top[5 + row * stride + i]
                               : low[9 + (row - rows[0]) * stride + i];
      w.push_back(dtype_ == DType::kF32 ? value : ToFloat(ToBf16(value)));
    }
  }
  const Tensor x = Tensor::Random(dtype_, k, 8);
  const auto want = reference::Gemm(x.Doubles(), w, {}, 1, 61, k);
  const Tensor y = Multiply(backend_.get(), x, 0, 1, **weight, DType::kF32);
  for (int64_t i = 0; i < 61; ++i) {
    ASSERT_NEAR(y[i], want.y[i],
                Tolerance(want.y[i], want.magnitude[i], k, DType::kF32));
  }
}

TEST_P(GemmTest, NoRowsAreNoWork) {
  const Tensor w = Tensor::Random(dtype_, 8 * 8, 9);
  const auto weight = Pack(w, 8, 8);
  GemmParams params = {};
  params.weight = weight.get();
  EXPECT_TRUE(backend_->Gemm(params).ok());
}

TEST_P(GemmTest, ARowDoesNotDependOnTheOthersNorOnThreads) {
  // k runs over several blocks, m over several tiles and passes.
  const int64_t m = 421, n = 70, k = 611;
  const Tensor x = Tensor::Random(dtype_, m * k, 10);
  const Tensor w = Tensor::Random(dtype_, n * k, 11);
  const auto weight = Pack(w, n, k);
  const Tensor all = Multiply(backend_.get(), x, 0, m, *weight, DType::kF32);
  const auto one_thread = Make(/*num_threads=*/1);
  const auto other_weight = Pack(one_thread.get(), w, n, k);
  EXPECT_TRUE(all.SameBits(
      Multiply(one_thread.get(), x, 0, m, *other_weight, DType::kF32)));
  for (int32_t rows : {1, 2, 3, 5, 8, 11, 12, 13, 31, 32, 33, 64, 100}) {
    for (int64_t begin : {0, 7, 320}) {
      const Tensor some =
          Multiply(backend_.get(), x, begin, rows, *weight, DType::kF32);
      ASSERT_TRUE(some.SameBits(0, all, begin * n, rows * n))
          << rows << " rows from " << begin;
    }
  }
}

std::string CaseName(
    const testing::TestParamInfo<std::tuple<DType, CpuGemmKind>>& info) {
  const bool packed = std::get<1>(info.param) == CpuGemmKind::kPacked;
  return std::string(Name(std::get<0>(info.param))) +
         (packed ? "Packed" : "OneDnn");
}

INSTANTIATE_TEST_SUITE_P(
    Products, GemmTest,
    testing::Combine(testing::Values(DType::kF32, DType::kBf16),
                     testing::Values(CpuGemmKind::kPacked,
                                     CpuGemmKind::kOneDnn)),
    CaseName);

}  // namespace
}  // namespace quire
