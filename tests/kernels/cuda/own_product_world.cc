// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/own_product_world.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "kernels/cuda/cuda_memory.h"
#include "tests/kernels/cuda/size_sample.h"
#include "tests/reference/gemm.h"

namespace quire {
namespace {

using testing::AssertionFailure;
using testing::AssertionResult;
using testing::AssertionSuccess;

constexpr int64_t kGap = 16;  // elements behind each row of y

// As in gemm_test.cc: tensor cores err by 2 u of the largest product for each
// of k, split sums by u of the sum.
double SumError(double magnitude, int64_t k) {
  return (2 * k + 8) * UnitRoundoff(DType::kF32) * magnitude;
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

bool HasBias(ProductKind kind) {
  return kind == ProductKind::kBias || kind == ProductKind::kAdds;
}

int64_t ColumnsOf(const ProductCase& c, ProductKind kind) {
  return kind == ProductKind::kGated ? c.n / 2 : c.n;
}

std::string Name(const ProductCase& c, ProductKind kind) {
  return absl::StrCat("m ", c.m, " n ", c.n, " k ", c.k, " kind ",
                      static_cast<int>(kind));
}

}  // namespace

std::unique_ptr<DeviceBuffer> Upload(const Tensor& tensor) {
  auto buffer = AllocateCuda(tensor.size() * SizeOf(tensor.dtype()));
  CHECK(buffer.ok()) << buffer.status();
  CHECK_EQ(cudaMemcpy((*buffer)->data(), tensor.data(), (*buffer)->bytes(),
                      cudaMemcpyHostToDevice),
           cudaSuccess);
  return *std::move(buffer);
}

// Random, the same each time; y is poisoned where nothing is added to it.
struct OwnProductWorld::Operands {
  Operands(const ProductCase& c, ProductKind kind, float deviation)
      : x(Tensor::Random(DType::kBf16, c.m * c.k, 1)),
        w(Tensor::Random(DType::kBf16, c.n * c.k, 2, deviation)),
        bias(Tensor::Random(DType::kBf16, c.n, 3)),
        before(YOf(c, kind)) {}

  static Tensor YOf(const ProductCase& c, ProductKind kind) {
    const DType dtype =
        kind == ProductKind::kFloat ? DType::kF32 : DType::kBf16;
    const int64_t size = c.m * (ColumnsOf(c, kind) + kGap);
    return kind == ProductKind::kAdds ? Tensor::Random(dtype, size, 4)
                                      : Tensor(dtype, size);
  }

  const Tensor x, w, bias;
  const Tensor before;  // y
};

// Runs twice, so that the second finds flags as the first left them.
Tensor OwnProductWorld::Run(const ProductCase& c, ProductKind kind,
                            const Operands& operands) const {
  const Tensor& before = operands.before;
  const auto dx = Upload(operands.x), dw = Upload(operands.w);
  const auto db = Upload(operands.bias), dy = Upload(before);
  const PlainGemmParams params = {.x = dx->data(),
                                  .x_stride = c.k,
                                  .w = dw->data(),
                                  .bias = HasBias(kind) ? db->data() : nullptr,
                                  .y = dy->data(),
                                  .y_stride = ColumnsOf(c, kind) + kGap,
                                  .m = c.m,
                                  .n = c.n,
                                  .k = c.k,
                                  .dtype = DType::kBf16,
                                  .y_dtype = before.dtype(),
                                  .adds = kind == ProductKind::kAdds,
                                  .is_gated = kind == ProductKind::kGated};
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

AssertionResult OwnProductWorld::AgreesWithReference(const ProductCase& c,
                                                     ProductKind kind) const {
  const Operands operands(c, kind, /*deviation=*/0.1f);
  const Tensor& before = operands.before;
  const int64_t columns = ColumnsOf(c, kind);
  const int64_t stride = columns + kGap;
  const Tensor y = Run(c, kind, operands);
  const auto sums = reference::Gemm(
      operands.x.Doubles(), operands.w.Doubles(),
      HasBias(kind) ? operands.bias.Doubles() : std::vector<double>(), c.m, c.n,
      c.k);
  for (int64_t row = 0; row < c.m; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const Wanted want = Want(sums, c, kind, before, row, column);
      const double got = y[row * stride + column];
      if (std::abs(got - want.y) <= want.tolerance) continue;
      return AssertionFailure()
             << Name(c, kind) << ", row " << row << " column " << column
             << " is " << got << ", not " << want.y << " within "
             << want.tolerance;
    }
    if (!y.SameBits(row * stride + columns, before, row * stride + columns,
                    kGap)) {
      return AssertionFailure() << Name(c, kind) << " wrote beyond row " << row;
    }
  }
  return AssertionSuccess();
}

AssertionResult OwnProductWorld::Repeats(const ProductCase& c) const {
  const ProductKind kind = ProductKind::kFloat;
  const Operands operands(c, kind, /*deviation=*/1.0f);
  const Tensor first = Run(c, kind, operands);
  for (int i = 1; i <= 5; ++i) {
    if (!IsSampled()) continue;
    if (first.SameBits(Run(c, kind, operands))) continue;
    return AssertionFailure() << Name(c, kind) << " differs in run " << i;
  }
  return AssertionSuccess();
}

AssertionResult OwnProductWorld::HasBitsOf(const OwnProductWorld& other,
                                           const ProductCase& c,
                                           ProductKind kind) const {
  const Operands operands(c, kind, /*deviation=*/0.1f);
  if (Run(c, kind, operands).SameBits(other.Run(c, kind, operands))) {
    return AssertionSuccess();
  }
  return AssertionFailure() << Name(c, kind) << " has other bits";
}

}  // namespace quire
