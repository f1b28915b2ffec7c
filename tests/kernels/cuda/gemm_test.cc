// SPDX-License-Identifier: Apache-2.0
//
// cuBLASLt's products and our plain one against the reference; the rule of the
// deterministic mode; choices that are kept.
#include "tests/reference/gemm.h"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/lt_gemm.h"
#include "tests/kernels/cuda/mirrored_backend.h"
#include "tests/kernels/tensor.h"

namespace quire {
namespace {

std::unique_ptr<Backend> Make(CudaBackendOptions options) {
  auto backend = CreateCudaBackend(options);
  CHECK(backend.ok()) << backend.status();
  return MirrorHostMemory(*std::move(backend));
}

std::unique_ptr<PackedWeight> Pack(Backend* backend, const Tensor& w, int64_t n,
                                   int64_t k) {
  const HostMatrix matrix = {w.data(), w.dtype(), n, k, k};
  auto packed = backend->PackWeight({matrix});
  CHECK(packed.ok()) << packed.status();
  return *std::move(packed);
}

// The product of rows [begin, begin + m) of x.
Tensor Multiply(Backend* backend, const Tensor& x, int64_t begin, int32_t m,
                const PackedWeight& weight, const Tensor* bias, DType y_dtype) {
  Tensor y(y_dtype, m * weight.n());
  const GemmParams params = {.x = x.At(begin * weight.k()),
                             .x_stride = weight.k(),
                             .weight = &weight,
                             .bias = bias == nullptr ? nullptr : bias->data(),
                             .y = y.data(),
                             .y_stride = weight.n(),
                             .y_dtype = y_dtype,
                             .m = m};
  const absl::Status status = backend->Gemm(params);
  EXPECT_TRUE(status.ok()) << status;
  return y;
}

// Tensor cores align the products of an instruction to the largest of them and
// cut off what falls below its 24 bits: at most 2 u of the largest for each of
// k, where float addition errs by u of the sum so far. Storing rounds twice
// where the bias is added on its own.
double Tolerance(double y, double magnitude, int64_t k, DType y_dtype) {
  return (2 * k + 4) * UnitRoundoff(DType::kF32) * magnitude +
         2 * UnitRoundoff(y_dtype) * std::abs(y) + 1e-37;
}

// dtype, deterministic.
class CudaGemmTest : public testing::TestWithParam<std::tuple<DType, bool>> {
 protected:
  const DType dtype_ = std::get<0>(GetParam());
  std::unique_ptr<Backend> backend_ =
      Make({.dtype = dtype_, .is_deterministic = std::get<1>(GetParam())});
};

TEST_P(CudaGemmTest, AgreesWithTheReferenceOnEveryPath) {
  // The library's sizes, and odd ones that it does not take.
  const int64_t kSizes[][3] = {{1, 64, 64},     {2, 8, 8},      {5, 128, 512},
                               {16, 136, 1048}, {17, 256, 256}, {64, 512, 136},
                               {130, 64, 328},  {300, 72, 80},  {1, 1, 1},
                               {1, 31, 7},      {3, 32, 129},   {5, 100, 63},
                               {70, 17, 300},   {65, 66, 67}};
  for (const auto& [m, n, k] : kSizes) {
    for (DType y_dtype : {dtype_, DType::kF32}) {
      for (bool has_bias : {false, true}) {
        SCOPED_TRACE(testing::Message() << "m " << m << " n " << n << " k " << k
                                        << " bias " << has_bias);
        const Tensor x = Tensor::Random(dtype_, m * k, 1);
        const Tensor w = Tensor::Random(dtype_, n * k, 2);
        const Tensor bias = Tensor::Random(dtype_, n, 3);
        const auto want = reference::Gemm(
            x.Doubles(), w.Doubles(),
            has_bias ? bias.Doubles() : std::vector<double>(), m, n, k);
        const auto weight = Pack(backend_.get(), w, n, k);
        const Tensor y = Multiply(backend_.get(), x, 0, m, *weight,
                                  has_bias ? &bias : nullptr, y_dtype);
        for (int64_t i = 0; i < m * n; ++i) {
          ASSERT_NEAR(y[i], want.y[i],
                      Tolerance(want.y[i], want.magnitude[i], k, y_dtype))
              << "row " << i / n << " column " << i % n;
        }
      }
    }
  }
}

// Twice, as the first product of a shape is timed, and timing must not add.
TEST_P(CudaGemmTest, AddsToWhatWasThere) {
  ASSERT_TRUE(backend_->adds_products());
  const int64_t kSizes[][3] = {{3, 64, 64},
                               {70, 136, 200},
                               {200, 128, 512},
                               {300, 144, 520},
                               {5, 31, 63}};
  for (const auto& [m, n, k] : kSizes) {
    for (int turn = 0; turn < 2; ++turn) {
      SCOPED_TRACE(testing::Message() << "m " << m << " n " << n);
      const Tensor x = Tensor::Random(dtype_, m * k, 1);
      const Tensor w = Tensor::Random(dtype_, n * k, 2);
      const Tensor bias = Tensor::Random(dtype_, n, 3);
      const Tensor before = Tensor::Random(dtype_, m * n, 4);
      const auto weight = Pack(backend_.get(), w, n, k);
      Tensor y = before;
      const absl::Status status = backend_->Gemm({.x = x.data(),
                                                  .x_stride = k,
                                                  .weight = weight.get(),
                                                  .bias = bias.data(),
                                                  .y = y.data(),
                                                  .y_stride = n,
                                                  .y_dtype = dtype_,
                                                  .m = static_cast<int32_t>(m),
                                                  .adds = true});
      ASSERT_TRUE(status.ok()) << status;
      const auto want =
          reference::Gemm(x.Doubles(), w.Doubles(), bias.Doubles(), m, n, k);
      for (int64_t i = 0; i < m * n; ++i) {
        const double sum = want.y[i] + before[i];
        // The library may round what it adds, and once more with its bias.
        const double rounding = 2 * UnitRoundoff(dtype_) *
                                (std::abs(want.y[i]) + std::abs(bias[i % n]));
        ASSERT_NEAR(
            y[i], sum,
            Tolerance(sum, want.magnitude[i] + std::abs(before[i]), k, dtype_) +
                rounding)
            << "row " << i / n << " column " << i % n;
      }
    }
  }
}

// By our own kernel, by the library with an activation behind it, and with
// numbers of rows that take no turns.
TEST_P(CudaGemmTest, GatesAgreeWithTheReference) {
  const int64_t kSizes[][3] = {{1, 64, 64},
                               {33, 136, 200},
                               {150, 128, 512},
                               {300, 136, 520},
                               {5, 31, 64}};
  for (const auto& [m, width, k] : kSizes) {
    SCOPED_TRACE(testing::Message() << "m " << m << " width " << width);
    const Tensor x = Tensor::Random(dtype_, m * k, 1);
    const Tensor gate = Tensor::Random(dtype_, width * k, 2, 0.1f);
    const Tensor up = Tensor::Random(dtype_, width * k, 3, 0.1f);
    auto weight = backend_->PackGated({gate.data(), dtype_, width, k, k},
                                      {up.data(), dtype_, width, k, k});
    ASSERT_TRUE(weight.ok()) << weight.status();
    ASSERT_EQ((*weight)->n(), 2 * width);
    Tensor products(dtype_, m * 2 * width), y(dtype_, m * width);
    const absl::Status status =
        backend_->GatedGemm({.x = x.data(),
                             .weight = weight->get(),
                             .products = products.data(),
                             .y = y.data(),
                             .m = static_cast<int32_t>(m)});
    ASSERT_TRUE(status.ok()) << status;
    const auto g =
        reference::Gemm(x.Doubles(), gate.Doubles(), {}, m, width, k);
    const auto u = reference::Gemm(x.Doubles(), up.Doubles(), {}, m, width, k);
    for (int64_t i = 0; i < m * width; ++i) {
      const double silu = g.y[i] / (1 + std::exp(-g.y[i]));
      // |silu'| < 1.1, and both products may be rounded before.
      const double g_error = Tolerance(g.y[i], g.magnitude[i], k, dtype_);
      const double u_error = Tolerance(u.y[i], u.magnitude[i], k, dtype_);
      const double want = silu * u.y[i];
      const double tolerance = 1.1 * g_error * (std::abs(u.y[i]) + u_error) +
                               std::abs(silu) * u_error +
                               2 * UnitRoundoff(dtype_) * std::abs(want) +
                               4e-6 * std::abs(want) + 1e-37;
      ASSERT_NEAR(y[i], want, tolerance)
          << "row " << i / width << " column " << i % width;
    }
  }
}

TEST_P(CudaGemmTest, KeepsToItsStrides) {
  const int64_t m = 7, n = 40, k = 48, x_stride = 64, y_stride = 56;
  const Tensor x = Tensor::Random(dtype_, m * x_stride, 3);
  const Tensor w = Tensor::Random(dtype_, n * k, 4);
  const auto weight = Pack(backend_.get(), w, n, k);
  Tensor y(dtype_, m * y_stride);
  const GemmParams params = {.x = x.data(),
                             .x_stride = x_stride,
                             .weight = weight.get(),
                             .bias = nullptr,
                             .y = y.data(),
                             .y_stride = y_stride,
                             .y_dtype = dtype_,
                             .m = m};
  ASSERT_TRUE(backend_->Gemm(params).ok());
  for (int64_t row = 0; row < m; ++row) {
    const auto want =
        reference::Gemm(x.Doubles(row * x_stride, k), w.Doubles(), {}, 1, n, k);
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

TEST_P(CudaGemmTest, StacksSlicesOfOtherDtypes) {
  const int64_t k = 40, stride = 50;
  const int64_t rows[2] = {21, 43};
  const Tensor top = Tensor::Random(DType::kF32, rows[0] * stride, 6);
  const Tensor low = Tensor::Random(DType::kBf16, rows[1] * stride, 7);
  const HostMatrix stack[] = {{top.At(5), DType::kF32, rows[0], k, stride},
                              {low.At(9), DType::kBf16, rows[1], k, stride}};
  auto weight = backend_->PackWeight(stack);
  ASSERT_TRUE(weight.ok()) << weight.status();
  ASSERT_EQ((*weight)->n(), 64);
  std::vector<double> w;
  for (int64_t row = 0; row < 64; ++row) {
    for (int64_t i = 0; i < k; ++i) {
      const double value = row < rows[0]
                               ? top[5 + row * stride + i]
                               : low[9 + (row - rows[0]) * stride + i];
      w.push_back(dtype_ == DType::kF32 ? value : ToFloat(ToBf16(value)));
    }
  }
  const Tensor x = Tensor::Random(dtype_, k, 8);
  const auto want = reference::Gemm(x.Doubles(), w, {}, 1, 64, k);
  const Tensor y =
      Multiply(backend_.get(), x, 0, 1, **weight, nullptr, DType::kF32);
  for (int64_t i = 0; i < 64; ++i) {
    ASSERT_NEAR(y[i], want.y[i],
                Tolerance(want.y[i], want.magnitude[i], k, DType::kF32));
  }
}

TEST_P(CudaGemmTest, DeterministicRowsDoNotDependOnTheOthers) {
  if (!std::get<1>(GetParam())) {
    GTEST_SKIP() << "the default mode promises nothing here";
  }
  // The library's product, and the plain one for an odd k.
  for (int64_t k : {1024, 611}) {
    const int64_t m = 421, n = 264;
    const Tensor x = Tensor::Random(dtype_, m * k, 10);
    const Tensor w = Tensor::Random(dtype_, n * k, 11);
    const auto weight = Pack(backend_.get(), w, n, k);
    const Tensor all =
        Multiply(backend_.get(), x, 0, m, *weight, nullptr, DType::kF32);
    for (int32_t rows : {1, 2, 3, 8, 16, 31, 32, 33, 64, 65, 100}) {
      for (int64_t begin : {0, 7, 320}) {
        const Tensor some = Multiply(backend_.get(), x, begin, rows, *weight,
                                     nullptr, DType::kF32);
        ASSERT_TRUE(some.SameBits(0, all, begin * n, rows * n))
            << rows << " rows from " << begin << " of k " << k;
      }
    }
  }
}

TEST_P(CudaGemmTest, NoRowsAreNoWork) {
  const Tensor w = Tensor::Random(dtype_, 8 * 8, 9);
  const auto weight = Pack(backend_.get(), w, 8, 8);
  GemmParams params = {};
  params.weight = weight.get();
  EXPECT_TRUE(backend_->Gemm(params).ok());
}

INSTANTIATE_TEST_SUITE_P(Modes, CudaGemmTest,
                         testing::Combine(testing::Values(DType::kF32,
                                                          DType::kBf16),
                                          testing::Bool()),
                         [](const auto& info) {
                           return std::string(Name(std::get<0>(info.param))) +
                                  (std::get<1>(info.param) ? "Deterministic"
                                                           : "Fastest");
                         });

TEST(GemmBucketTest, BucketsCoverEveryNumberOfRows) {
  int64_t last = 0;
  for (int64_t m = 1; m <= 10'000; ++m) {
    const int64_t bucket = GemmBucketOf(m);
    ASSERT_GE(bucket, m);
    ASSERT_GE(bucket, last);
    ASSERT_EQ(GemmBucketOf(bucket), bucket);
    ASSERT_LE(bucket, 2 * m);
    last = bucket;
  }
}

TEST(CudaGemmCacheTest, AnotherProcessTakesOverWhatWasTimed) {
  const std::string path =
      absl::StrCat(testing::TempDir(), "/gemm_cache_", getpid());
  const int64_t n = 128, k = 256;
  const Tensor x = Tensor::Random(DType::kBf16, 4 * k, 1);
  const Tensor w = Tensor::Random(DType::kBf16, n * k, 2);
  const auto run = [&] {
    const auto backend = Make({.dtype = DType::kBf16,
                               .gemm_cache_path = path,
                               .has_stream_gemm = false});
    const auto weight = Pack(backend.get(), w, n, k);
    return Multiply(backend.get(), x, 0, 4, *weight, nullptr, DType::kF32);
  };
  const auto lines = [&] {
    std::ifstream file(path);
    std::string line;
    int count = 0;
    while (std::getline(file, line)) ++count;
    return count;
  };
  const Tensor first = run();
  EXPECT_EQ(lines(), 1);
  const Tensor second = run();
  EXPECT_EQ(lines(), 1);  // nothing was timed again
  EXPECT_TRUE(first.SameBits(second));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace quire
