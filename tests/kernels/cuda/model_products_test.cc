// SPDX-License-Identifier: Apache-2.0
//
// Deterministic products of the sizes that models have: a row's bits do not
// depend on how many rows there are, nor on when it is computed.
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/kernels/cuda/count_different.h"

namespace quire {
namespace {

constexpr int32_t kMaxRows = 4352;

struct Shape {
  int64_t n, k;
  DType y_dtype = DType::kBf16;
};

class ModelProductsTest : public testing::TestWithParam<Shape> {
 protected:
  void SetUp() override {
    auto backend =
        CreateCudaBackend({.dtype = DType::kBf16, .is_deterministic = true});
    CHECK(backend.ok()) << backend.status();
    backend_ = *std::move(backend);
    const auto [n, k, y_dtype] = GetParam();
    x_ = Room(kMaxRows * k * 2);
    FillWithRandomBf16(x_->data(), kMaxRows * k, 1);
    const auto w = Room(n * k * 2);
    FillWithRandomBf16(w->data(), n * k, 2);
    std::vector<uint16_t> host(n * k);
    CHECK(backend_->CopyToHost(w->data(), host.data(), n * k * 2).ok());
    CHECK(backend_->Synchronize().ok());
    auto packed = backend_->PackWeight({{host.data(), DType::kBf16, n, k, k}});
    CHECK(packed.ok()) << packed.status();
    weight_ = *std::move(packed);
    want_ = Room(kMaxRows * RowBytes());
    got_ = Room(kMaxRows * RowBytes());
    Run(0, kMaxRows, want_->as<char>());
  }

  std::unique_ptr<DeviceBuffer> Room(int64_t bytes) {
    return *backend_->Allocate(bytes);
  }
  int64_t RowBytes() const {
    return GetParam().n * (GetParam().y_dtype == DType::kF32 ? 4 : 2);
  }

  // Rows [begin, begin + rows).
  void Run(int32_t begin, int32_t rows, char* y) {
    GemmParams params = {};
    params.x = x_->as<uint16_t>() + begin * GetParam().k;
    params.x_stride = GetParam().k;
    params.weight = weight_.get();
    params.y = y;
    params.y_stride = GetParam().n;
    params.y_dtype = GetParam().y_dtype;
    params.m = rows;
    const absl::Status status = backend_->Gemm(params);
    CHECK(status.ok()) << status;
    CHECK(backend_->Synchronize().ok());
  }

  int64_t Different(int32_t begin, int32_t rows) {
    Run(begin, rows, got_->as<char>());
    return CountDifferentWords(got_->data(),
                               want_->as<char>() + begin * RowBytes(),
                               rows * RowBytes() / 4);
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PackedWeight> weight_;
  std::unique_ptr<DeviceBuffer> x_, want_, got_;
};

TEST_P(ModelProductsTest, HowManyRowsThereAreDoesNotShow) {
  std::set<int32_t> counts;
  for (int32_t rows = 1; rows <= 300; ++rows) counts.insert(rows);
  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) counts.insert(1 + random() % kMaxRows);
  for (const int32_t rows : counts) {
    const int32_t begin = random() % (kMaxRows - rows + 1);
    EXPECT_EQ(Different(begin, rows), 0) << rows << " rows from " << begin;
  }
}

TEST_P(ModelProductsTest, ARunRepeats) {
  for (int i = 0; i < 60; ++i) {
    for (const int32_t rows : {1, 32, 128, 4096}) {
      EXPECT_EQ(Different(0, rows), 0) << rows << " rows, run " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Llama8B, ModelProductsTest,
                         testing::Values(Shape{6144, 4096}, Shape{4096, 4096},
                                         Shape{28672, 4096}, Shape{4096, 14336},
                                         Shape{128256, 4096, DType::kF32}),
                         [](const auto& info) {
                           return std::to_string(info.param.n) + "_by_" +
                                  std::to_string(info.param.k);
                         });

}  // namespace
}  // namespace quire
