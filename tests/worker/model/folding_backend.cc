// SPDX-License-Identifier: Apache-2.0
#include "tests/worker/model/folding_backend.h"

#include <cmath>
#include <utility>

#include "common/status_macros.h"
#include "glog/logging.h"
#include "kernels/cpu/cpu_backend.h"

namespace quire {
namespace {

// What a product leaves for the norm that follows.
void BeginNorm(const FoldedNorm& norm, const GemmParams& params) {
  const auto* weight = static_cast<const float*>(norm.weight);
  const int64_t width = params.weight->n();
  for (int64_t row = 0; row < params.m; ++row) {
    const float* y = static_cast<const float*>(params.y) + row * width;
    float* out = static_cast<float*>(norm.out) + row * width;
    for (int64_t i = 0; i < width; ++i) {
      float& squares =
          norm.squares[i / FoldedNorm::kColumns * FoldedNorm::kMaxRows + row];
      if (i % FoldedNorm::kColumns == 0) squares = 0;
      squares += y[i] * y[i];
      out[i] = y[i] * weight[i];
    }
  }
}

float FactorOf(const FoldedNorm& norm, int64_t width, int64_t row) {
  float squares = 0;
  for (int64_t i = 0; i < width; i += FoldedNorm::kColumns) {
    squares +=
        norm.squares[i / FoldedNorm::kColumns * FoldedNorm::kMaxRows + row];
  }
  return 1 / std::sqrt(squares / static_cast<float>(width) + norm.epsilon);
}

}  // namespace

FoldingBackend::FoldingBackend(int32_t max_rows) : max_rows_(max_rows) {
  CHECK_LE(max_rows, FoldedNorm::kMaxRows);
  auto cpu = CpuBackend::Create({.num_threads = 1});
  CHECK(cpu.ok()) << cpu.status();
  cpu_ = *std::move(cpu);
}

absl::Status FoldingBackend::Gemm(const GemmParams& params) {
  const int64_t n = params.weight->n(), k = params.weight->k();
  if (params.norm_before != nullptr) {
    CHECK_EQ(params.x, params.norm_before->out);
    CHECK_LE(params.m, max_rows_);
  }
  num_product_rows_ += params.m;
  product_.assign(params.m * n, 0.0f);
  GemmParams plain = params;
  plain.bias = nullptr;
  plain.y = product_.data();
  plain.y_stride = n;
  plain.adds = false;
  plain.norm_after = plain.norm_before = nullptr;
  QUIRE_RETURN_IF_ERROR(cpu_->Gemm(plain));
  const auto* bias = static_cast<const float*>(params.bias);
  for (int64_t row = 0; row < params.m; ++row) {
    const float factor = params.norm_before == nullptr
                             ? 1.0f
                             : FactorOf(*params.norm_before, k, row);
    float* y = static_cast<float*>(params.y) + row * params.y_stride;
    for (int64_t i = 0; i < n; ++i) {
      const float sum =
          product_[row * n + i] * factor + (bias == nullptr ? 0 : bias[i]);
      y[i] = params.adds ? y[i] + sum : sum;
    }
  }
  if (params.norm_after != nullptr) BeginNorm(*params.norm_after, params);
  return absl::OkStatus();
}

int64_t FoldingBackend::TakeNumNorms() { return std::exchange(num_norms_, 0); }

int64_t FoldingBackend::TakeNumProductRows() {
  return std::exchange(num_product_rows_, 0);
}

}  // namespace quire
