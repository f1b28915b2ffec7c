// SPDX-License-Identifier: Apache-2.0
//
// Which algorithms are timed; what they compute is gemm_test's matter.
#include "kernels/cuda/lt_gemm.h"

#include <cstdint>
#include <memory>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

namespace quire {
namespace {

class LtGemmTest : public testing::Test {
 protected:
  void SetUp() override {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             cudaSuccess);
    for (void** matrix : {&x_, &w_, &y_}) {
      CHECK_EQ(cudaMalloc(matrix, 1 << 20), cudaSuccess);
      CHECK_EQ(cudaMemset(*matrix, 0, 1 << 20), cudaSuccess);
    }
    auto gemm = LtGemm::Create({}, stream_);
    CHECK(gemm.ok()) << gemm.status();
    gemm_ = *std::move(gemm);
  }
  void TearDown() override {
    cudaStreamSynchronize(stream_);
    gemm_.reset();
    for (void* matrix : {x_, w_, y_}) cudaFree(matrix);
    cudaStreamDestroy(stream_);
  }

  void Multiply(int64_t m, bool is_alike) {
    PlainGemmParams params = {};
    params.x = x_;
    params.w = w_;
    params.y = y_;
    params.m = m;
    params.n = params.y_stride = 128;
    params.k = params.x_stride = 256;
    params.dtype = DType::kBf16;
    params.y_dtype = DType::kF32;
    params.is_alike = is_alike;
    const absl::Status status = gemm_->Run(params);
    ASSERT_TRUE(status.ok()) << status;
  }

  cudaStream_t stream_ = nullptr;
  void* x_ = nullptr;
  void* w_ = nullptr;
  void* y_ = nullptr;
  std::unique_ptr<LtGemm> gemm_;
};

TEST_F(LtGemmTest, ABucketOfRowsIsTimedOnce) {
  Multiply(200, /*is_alike=*/false);
  Multiply(201, /*is_alike=*/false);
  ASSERT_EQ(GemmBucketOf(200), GemmBucketOf(201));
  EXPECT_EQ(gemm_->num_tuned(), 1);
}

TEST_F(LtGemmTest, WhatRanksMustDoAlikeIsNotTimed) {
  Multiply(200, /*is_alike=*/true);
  EXPECT_EQ(gemm_->num_tuned(), 0);
  // Nor does it take what was timed for others.
  Multiply(200, /*is_alike=*/false);
  Multiply(200, /*is_alike=*/true);
  EXPECT_EQ(gemm_->num_tuned(), 1);
}

}  // namespace
}  // namespace quire
