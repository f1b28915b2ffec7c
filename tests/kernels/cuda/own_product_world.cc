// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/own_product_world.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_memory.h"
#include "tests/reference/gemm.h"

namespace quire {
namespace {

constexpr int64_t kGap = 16;  // elements behind each row of y

// As in gemm_test.cc: tensor cores err by 2 u of the largest product for each
// of k, split sums by u of the sum.
double SumError(double magnitude, int64_t k) {
  return (2 * k + 8) * UnitRoundoff(DType::kF32) * magnitude;
}

std::unique_ptr<DeviceBuffer> Upload(const Tensor& tensor) {
  auto buffer = AllocateCuda(tensor.size() * SizeOf(tensor.dtype()));
  CHECK(buffer.ok()) << buffer.status();
  CHECK_EQ(cudaMemcpy((*buffer)->data(), tensor.data(), (*buffer)->bytes(),
                      cudaMemcpyHostToDevice),
           cudaSuccess);
  return *std::move(buffer);
}

struct Wanted {
  double y;
  double tolerance;
};

// Of row `row`, column `column` of y.
Wanted Want(const reference::GemmResult& sums, const ProductCase& c,
            ProductKind kind, const Tensor& before, int64_t row,
            int64_t column) {
  const double u = UnitRoundoff(DType::kBf16);
  if (kind == ProductKind::kGated) {
    const int64_t gate_at = row * c.n + column / 8 * 16 + column % 8;
    const double gate = sums.y[gate_at], up = sums.y[gate_at + 8];
    const double silu = gate / (1 + std::exp(-gate));
    // |silu'| < 1.1; the exponential errs by less than 2^-20 in all.
    const double error =
        1.1 * std::abs(up) * SumError(sums.magnitude[gate_at], c.k) +
        (std::abs(silu) + 1e-3) * SumError(sums.magnitude[gate_at + 8], c.k) +
        1e-6 * std::abs(silu * up);
    return {silu * up, 1.001 * error + u * std::abs(silu * up) + 1e-37};
  }
  const int64_t at = row * c.n + column;
  double y = sums.y[at];
  if (kind == ProductKind::kAdds) y += before[row * (c.n + kGap) + column];
  const double rounding =
      UnitRoundoff(kind == ProductKind::kFloat ? DType::kF32 : DType::kBf16);
  // Products may be rounded before they are added.
  const double product =
      kind == ProductKind::kAdds ? 1.01 * rounding * std::abs(sums.y[at]) : 0;
  return {y, SumError(sums.magnitude[at] + std::abs(y), c.k) + product +
                 rounding * std::abs(y) + 1e-37};
}

}  // namespace

// Runs twice, so that the second finds flags as the first left them.
Tensor OwnProductWorld::Run(const ProductCase& c, ProductKind kind,
                            const Tensor& x, const Tensor& w,
                            const Tensor& bias, const Tensor& before) const {
  const auto dx = Upload(x), dw = Upload(w), db = Upload(bias);
  const auto dy = Upload(before);
  const bool is_gated = kind == ProductKind::kGated;
  const PlainGemmParams params = {
      .x = dx->data(),
      .x_stride = c.k,
      .w = dw->data(),
      .bias = kind == ProductKind::kBias || kind == ProductKind::kAdds
                  ? db->data()
                  : nullptr,
      .y = dy->data(),
      .y_stride = (is_gated ? c.n / 2 : c.n) + kGap,
      .m = c.m,
      .n = c.n,
      .k = c.k,
      .dtype = DType::kBf16,
      .y_dtype = kind == ProductKind::kFloat ? DType::kF32 : DType::kBf16,
      .adds = kind == ProductKind::kAdds,
      .is_gated = is_gated};
  for (int i = 0; i < 2; ++i) {
    CHECK_EQ(cudaMemcpyAsync(dy->data(), before.data(), dy->bytes(),
                             cudaMemcpyHostToDevice, stream_),
             cudaSuccess);
    const absl::Status status = multiply_(params);
    CHECK(status.ok()) << status;
    CHECK_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }
  Tensor y(before.dtype(), before.size());
  CHECK_EQ(
      cudaMemcpy(y.data(), dy->data(), dy->bytes(), cudaMemcpyDeviceToHost),
      cudaSuccess);
  return y;
}

void OwnProductWorld::Check(const ProductCase& c, ProductKind kind) const {
  SCOPED_TRACE(testing::Message() << "m " << c.m << " n " << c.n << " k " << c.k
                                  << " kind " << static_cast<int>(kind));
  const Tensor x = Tensor::Random(DType::kBf16, c.m * c.k, 1);
  const Tensor w = Tensor::Random(DType::kBf16, c.n * c.k, 2, 0.1f);
  const Tensor bias = Tensor::Random(DType::kBf16, c.n, 3);
  const bool has_bias =
      kind == ProductKind::kBias || kind == ProductKind::kAdds;
  const int64_t columns = kind == ProductKind::kGated ? c.n / 2 : c.n;
  const int64_t stride = columns + kGap;
  const DType y_dtype =
      kind == ProductKind::kFloat ? DType::kF32 : DType::kBf16;
  const Tensor before = kind == ProductKind::kAdds
                            ? Tensor::Random(y_dtype, c.m * stride, 4)
                            : Tensor(y_dtype, c.m * stride);
  const Tensor y = Run(c, kind, x, w, bias, before);
  const auto sums = reference::Gemm(
      x.Doubles(), w.Doubles(),
      has_bias ? bias.Doubles() : std::vector<double>(), c.m, c.n, c.k);
  for (int64_t row = 0; row < c.m; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const Wanted want = Want(sums, c, kind, before, row, column);
      ASSERT_NEAR(y[row * stride + column], want.y, want.tolerance)
          << "row " << row << " column " << column;
    }
    ASSERT_TRUE(y.SameBits(row * stride + columns, before,
                           row * stride + columns, kGap))
        << "wrote beyond row " << row;
  }
}

void OwnProductWorld::CheckRepeats(const ProductCase& c) const {
  const Tensor x = Tensor::Random(DType::kBf16, c.m * c.k, 1);
  const Tensor w = Tensor::Random(DType::kBf16, c.n * c.k, 2);
  const Tensor bias = Tensor::Random(DType::kBf16, c.n, 3);
  const Tensor before(DType::kF32, c.m * (c.n + kGap));
  const Tensor first = Run(c, ProductKind::kFloat, x, w, bias, before);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(
        first.SameBits(Run(c, ProductKind::kFloat, x, w, bias, before)));
  }
}

}  // namespace quire
