// SPDX-License-Identifier: Apache-2.0
//
// Our own products of many rows, for every tile that there is a kernel for.
#include "kernels/cuda/tile_gemm.h"

#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "kernels/cuda/tile_kernel.h"
#include "tests/kernels/cuda/own_product_world.h"

namespace quire {
namespace {

class TileGemmTest : public OwnProductFixture<TileGemm, int32_t> {
 protected:
  absl::StatusOr<std::unique_ptr<TileGemm>> Create() override {
    return TileGemm::Create(stream_, /*is_deterministic=*/false);
  }
  absl::Status Multiply(const PlainGemmParams& params) override {
    return gemm_->Run(params);
  }
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
