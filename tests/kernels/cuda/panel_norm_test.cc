// SPDX-License-Identifier: Apache-2.0
//
// A norm folded into the product before it and the one behind it, for every
// width of a panel, whole and split.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cuda/cuda_memory.h"
#include "kernels/cuda/panel_gemm.h"
#include "kernels/gemm.h"
#include "tests/kernels/cuda/own_product_world.h"
#include "tests/kernels/tensor.h"
#include "tests/reference/gemm.h"

namespace quire {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr double kBf16 = 1.0 / 256;  // unit roundoffs
constexpr double kFloat = 1.0 / (1 << 24);

enum class ReaderKind { kPlain, kBias, kGated };

// [m, before] by [width, before] into rows that are normed, and those by
// [n, width].
struct NormCase {
  int64_t m, before, width, n;
};

int64_t NumSquares(const NormCase& c) {
  return (c.width + FoldedNorm::kColumns - 1) / FoldedNorm::kColumns;
}

class OnDevice {
 public:
  explicit OnDevice(const Tensor& tensor)
      : dtype_(tensor.dtype()), size_(tensor.size()) {
    auto buffer = AllocateCuda(size_ * SizeOf(dtype_));
    CHECK(buffer.ok()) << buffer.status();
    buffer_ = *std::move(buffer);
    Set(tensor);
  }
  void Set(const Tensor& tensor) {
    CHECK_EQ(cudaMemcpy(buffer_->data(), tensor.data(), buffer_->bytes(),
                        cudaMemcpyHostToDevice),
             cudaSuccess);
    // Other streams do not wait for the last of the copy.
    CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  Tensor Get() const {
    Tensor tensor(dtype_, size_);
    CHECK_EQ(cudaMemcpy(tensor.data(), buffer_->data(), buffer_->bytes(),
                        cudaMemcpyDeviceToHost),
             cudaSuccess);
    return tensor;
  }
  void* data() const { return buffer_->data(); }

 private:
  DType dtype_;
  int64_t size_;
  std::unique_ptr<DeviceBuffer> buffer_;
};

PlainGemmParams Product(int64_t m, int64_t n, int64_t k, const OnDevice& x,
                        const OnDevice& w, const OnDevice& y) {
  return {.x = x.data(),
          .x_stride = k,
          .w = w.data(),
          .bias = nullptr,
          .y = y.data(),
          .y_stride = n,
          .m = m,
          .n = n,
          .k = k,
          .dtype = DType::kBf16,
          .y_dtype = DType::kBf16};
}

// What the first product leaves.
struct Stored {
  Tensor sum;  // [m, width]
  Tensor out;  // [m, width]
  Tensor squares;
};

class PanelNormTest : public OwnProductFixture<PanelGemm, PanelPlan> {
 protected:
  absl::StatusOr<std::unique_ptr<PanelGemm>> Create() override {
    return PanelGemm::Create(stream_);
  }
  absl::Status Multiply(const PlainGemmParams& params) override {
    return gemm_->RunAs(GetParam(), params);
  }

  void Run(const PlainGemmParams& params) {
    CHECK(PanelGemm::CanRun(params));
    const absl::Status status = Multiply(params);
    CHECK(status.ok()) << status;
  }
  void Synchronize() { CHECK_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

  // Adds to random rows; the same with a norm that follows and without.
  Stored Store(const NormCase& c, const Tensor& weight);
  // Both products, each by itself.
  void Check(const NormCase& c, ReaderKind kind);
};

Stored PanelNormTest::Store(const NormCase& c, const Tensor& weight) {
  const OnDevice x(Tensor::Random(DType::kBf16, c.m * c.before, 1));
  const OnDevice w(Tensor::Random(DType::kBf16, c.width * c.before, 2, 0.1f));
  const Tensor before = Tensor::Random(DType::kBf16, c.m * c.width, 3, 3.0f);
  const OnDevice sum(before), gamma(weight);
  const OnDevice out(Tensor(DType::kBf16, c.m * c.width));
  const OnDevice squares(
      Tensor(DType::kF32, NumSquares(c) * FoldedNorm::kMaxRows));
  PlainGemmParams product = Product(c.m, c.width, c.before, x, w, sum);
  product.adds = true;
  Run(product);
  Synchronize();
  const Tensor plain = sum.Get();
  const FoldedNorm norm = {gamma.data(), out.data(),
                           static_cast<float*>(squares.data()), kEpsilon};
  product.norm_after = &norm;
  OnDevice again(before);
  product.y = again.data();
  Run(product);
  Synchronize();
  Stored stored = {again.Get(), out.Get(), squares.Get()};
  EXPECT_TRUE(plain.SameBits(stored.sum));
  return stored;
}

// Sums of squares beyond the rows stay poisoned.
void CheckStored(const NormCase& c, const Stored& stored,
                 const Tensor& weight) {
  for (int64_t row = 0; row < c.m; ++row) {
    for (int64_t column = 0; column < c.width; ++column) {
      const int64_t at = row * c.width + column;
      const float want = ToFloat(ToBf16(static_cast<float>(stored.sum[at]) *
                                        static_cast<float>(weight[column])));
      ASSERT_EQ(stored.out[at], want) << row << " " << column;
    }
  }
  for (int64_t i = 0; i < NumSquares(c); ++i) {
    for (int64_t row = 0; row < FoldedNorm::kMaxRows; ++row) {
      const double got = stored.squares[i * FoldedNorm::kMaxRows + row];
      if (row >= c.m) {
        ASSERT_TRUE(std::isnan(got)) << i << " " << row;
        continue;
      }
      double want = 0;
      const int64_t end = std::min(c.width, (i + 1) * FoldedNorm::kColumns);
      for (int64_t k = i * FoldedNorm::kColumns; k < end; ++k) {
        want += stored.sum[row * c.width + k] * stored.sum[row * c.width + k];
      }
      ASSERT_NEAR(got, want, FoldedNorm::kColumns * kFloat * want)
          << i << " " << row;
    }
  }
}

struct Wanted {
  double y;
  double tolerance;
};

// Of sums of products of `out`, times a row's factor: tensor cores err by 2 u
// of the largest product for each of k, and the factor by 2^-22 and by half of
// what the sum of so many squares does.
Wanted Scaled(double factor, double sum, double magnitude, int64_t k) {
  const double y = factor * sum;
  return {y, factor * (2 * k + 8) * kFloat * magnitude +
                 (4 + k / 64.0 + 32) * kFloat * std::abs(y)};
}

void CheckRead(const NormCase& c, ReaderKind kind, const Stored& stored,
               const Tensor& w, const Tensor& bias, const Tensor& y) {
  const auto sums =
      reference::Gemm(stored.out.Doubles(), w.Doubles(), {}, c.m, c.n, c.width);
  const int64_t columns = kind == ReaderKind::kGated ? c.n / 2 : c.n;
  for (int64_t row = 0; row < c.m; ++row) {
    double squares = 0;
    for (int64_t k = 0; k < c.width; ++k) {
      squares += stored.sum[row * c.width + k] * stored.sum[row * c.width + k];
    }
    const double factor = 1 / std::sqrt(squares / c.width + kEpsilon);
    const auto scaled = [&](int64_t at) {
      return Scaled(factor, sums.y[row * c.n + at],
                    sums.magnitude[row * c.n + at], c.width);
    };
    for (int64_t column = 0; column < columns; ++column) {
      Wanted want;
      if (kind == ReaderKind::kGated) {
        const Wanted gate = scaled(column / 8 * 16 + column % 8);
        const Wanted up = scaled(column / 8 * 16 + column % 8 + 8);
        const double silu = gate.y / (1 + std::exp(-gate.y));
        // |silu'| < 1.1; the exponential errs by less than 2^-20 in all.
        want = {silu * up.y, 1.1 * std::abs(up.y) * gate.tolerance +
                                 (std::abs(silu) + 1e-3) * up.tolerance +
                                 1e-6 * std::abs(silu * up.y)};
      } else {
        want = scaled(column);
        if (kind == ReaderKind::kBias) want.y += bias[column];
      }
      want.tolerance = 1.001 * want.tolerance + kBf16 * std::abs(want.y) +
                       kFloat * std::abs(want.y) + 1e-37;
      ASSERT_NEAR(y[row * columns + column], want.y, want.tolerance)
          << "row " << row << " column " << column;
    }
  }
}

void PanelNormTest::Check(const NormCase& c, ReaderKind kind) {
  SCOPED_TRACE(testing::Message()
               << "m " << c.m << " before " << c.before << " width " << c.width
               << " n " << c.n << " kind " << static_cast<int>(kind));
  const Tensor weight = Tensor::Random(DType::kBf16, c.width, 4);
  const Stored stored = Store(c, weight);
  CheckStored(c, stored, weight);
  if (testing::Test::HasFatalFailure()) return;
  const Tensor w = Tensor::Random(DType::kBf16, c.n * c.width, 5, 0.1f);
  const Tensor bias = Tensor::Random(DType::kBf16, c.n, 6);
  const bool is_gated = kind == ReaderKind::kGated;
  const OnDevice x(stored.out), dw(w), db(bias), squares(stored.squares);
  const OnDevice y(Tensor(DType::kBf16, c.m * (is_gated ? c.n / 2 : c.n)));
  PlainGemmParams reader = Product(c.m, c.n, c.width, x, dw, y);
  const FoldedNorm norm = {nullptr, nullptr,
                           static_cast<float*>(squares.data()), kEpsilon};
  reader.norm_before = &norm;
  reader.is_gated = is_gated;
  if (is_gated) reader.y_stride = c.n / 2;
  if (kind == ReaderKind::kBias) reader.bias = db.data();
  // Twice, so that the second finds what the first left of its sums.
  for (int i = 0; i < 2; ++i) Run(reader);
  Synchronize();
  CheckRead(c, kind, stored, w, bias, y.Get());
}

TEST_P(PanelNormTest, AgreesWithTheReference) {
  // Fewer pieces than splits, and sums of squares of fewer columns than 32.
  const NormCase kCases[] = {{1, 8, 16, 16},
                             {65, 72, 144, 144},
                             {97, 264, 400, 272},
                             {128, 136, 1032, 80}};
  for (const NormCase& c : kCases) {
    for (const ReaderKind kind :
         {ReaderKind::kPlain, ReaderKind::kBias, ReaderKind::kGated}) {
      Check(c, kind);
      if (HasFatalFailure()) return;
    }
  }
}

// More panels than blocks run at once, of either product.
TEST_P(PanelNormTest, ReachesAllPanelsOfABlock) {
  const PanelPlan& plan = GetParam();
  if (plan.splits > 1) GTEST_SKIP() << "a block has one panel";
  const int64_t n = plan.rows * 165 + 16;
  Check({68, 16, n, 32}, ReaderKind::kPlain);
  if (HasFatalFailure()) return;
  Check({68, 16, 136, n}, ReaderKind::kGated);
}

// As a model runs them: the second begins while the first still ends.
TEST_P(PanelNormTest, ProductsFollowEachOther) {
  const NormCase c = {128, 520, 1024, 512};
  const OnDevice x(Tensor::Random(DType::kBf16, c.m * c.before, 1));
  const OnDevice w(Tensor::Random(DType::kBf16, c.width * c.before, 2, 0.1f));
  const OnDevice next(Tensor::Random(DType::kBf16, c.n * c.width, 5, 0.1f));
  const OnDevice gamma(Tensor::Random(DType::kBf16, c.width, 4));
  const OnDevice out(Tensor(DType::kBf16, c.m * c.width));
  const OnDevice squares(
      Tensor(DType::kF32, NumSquares(c) * FoldedNorm::kMaxRows));
  const OnDevice sum(Tensor::Random(DType::kBf16, c.m * c.width, 3));
  const OnDevice y(Tensor(DType::kBf16, c.m * c.n));
  const FoldedNorm norm = {gamma.data(), out.data(),
                           static_cast<float*>(squares.data()), kEpsilon};
  PlainGemmParams first = Product(c.m, c.width, c.before, x, w, sum);
  first.norm_after = &norm;  // each time the same rows
  PlainGemmParams second = Product(c.m, c.n, c.width, out, next, y);
  second.norm_before = &norm;
  Run(first);
  Synchronize();
  Run(second);
  Synchronize();
  const Tensor want = y.Get();
  for (int i = 0; i < 20; ++i) {
    CHECK_EQ(cudaMemsetAsync(out.data(), 0xff, 2 * c.m * c.width, stream_),
             cudaSuccess);
    CHECK_EQ(cudaMemsetAsync(squares.data(), 0xff,
                             NumSquares(c) * FoldedNorm::kMaxRows * 4, stream_),
             cudaSuccess);
    Run(first);
    Run(second);
    Synchronize();
    ASSERT_TRUE(want.SameBits(y.Get())) << i;
  }
}

std::vector<PanelPlan> Plans() {
  std::vector<PanelPlan> plans;
  for (const int32_t rows : kPanelRows) {
    for (const int32_t splits : {1, 2}) plans.push_back({rows, splits});
  }
  plans.push_back({128, 4});
  plans.push_back({256, 8});
  return plans;
}

INSTANTIATE_TEST_SUITE_P(Plans, PanelNormTest, testing::ValuesIn(Plans()),
                         [](const auto& info) {
                           const PanelPlan& plan = info.param;
                           return absl::StrCat("PanelsOf", plan.rows, "Splits",
                                               plan.splits);
                         });

}  // namespace
}  // namespace quire
