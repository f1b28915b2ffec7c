// SPDX-License-Identifier: Apache-2.0
//
// Our own products of many rows, for every tile that there is a kernel for.
#include "kernels/cuda/tile_gemm.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "cuda_runtime_api.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "kernels/cuda/tile_kernel.h"
#include "tests/kernels/cuda/own_product_world.h"

namespace quire {
namespace {

class TileGemmTest : public testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    CHECK_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
             cudaSuccess);
    auto gemm = TileGemm::Create(stream_, /*is_deterministic=*/false);
    ASSERT_TRUE(gemm.ok()) << gemm.status();
    gemm_ = *std::move(gemm);
    if (gemm_ == nullptr) GTEST_SKIP() << "no Hopper GPU";
  }
  void TearDown() override {
    gemm_.reset();
    cudaStreamDestroy(stream_);
  }

  OwnProductWorld World() {
    return OwnProductWorld(stream_, [this](const PlainGemmParams& params) {
      CHECK(TileGemm::CanRun(params));
      return gemm_->Run(params);
    });
  }

  cudaStream_t stream_ = nullptr;
  std::unique_ptr<TileGemm> gemm_;
};

// Rows, weights and k that are no multiples of any tile's sides.
TEST_P(TileGemmTest, AgreesWithTheReferenceOnOddSizes) {
  const int64_t tokens = GetParam();
  const ProductCase kCases[] = {{1, 16, 8},
                                {tokens - 15, 144, 72},
                                {tokens, 272, 1032},
                                {2 * tokens - 7, 400, 200}};
  for (const ProductCase& c : kCases) {
    for (const ProductKind kind : kProductKinds) {
      World().Check(c, kind);
      if (HasFatalFailure()) return;
    }
  }
}

// More pairs of tiles than any Hopper GPU has clusters, each of several pieces.
TEST_P(TileGemmTest, AgreesWithTheReferenceOnClustersOfSeveralTiles) {
  for (const ProductKind kind : {ProductKind::kAdds, ProductKind::kGated}) {
    World().Check({GetParam(), 256 * 99 + 16, 136}, kind);
    if (HasFatalFailure()) return;
  }
}

// Few tiles of a long k: each is several clusters'.
TEST_P(TileGemmTest, AddsInTheSameOrderEachTime) {
  World().CheckRepeats({GetParam(), 528, 6152});
}

INSTANTIATE_TEST_SUITE_P(Tokens, TileGemmTest,
                         testing::Range(kMinTileTokens,
                                        kMaxTileTokens + kTileTokensStep,
                                        kTileTokensStep),
                         [](const auto& info) {
                           return "TilesOf" + std::to_string(info.param);
                         });

}  // namespace
}  // namespace quire
