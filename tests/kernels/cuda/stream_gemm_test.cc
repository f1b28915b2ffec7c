// SPDX-License-Identifier: Apache-2.0
//
// Our own products of few rows, for every number of rows that there is a
// kernel for.
#include "kernels/cuda/stream_gemm.h"

#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/own_product_world.h"

namespace quire {
namespace {

class StreamGemmTest : public OwnProductFixture<StreamGemm, int32_t> {
 protected:
  absl::StatusOr<std::unique_ptr<StreamGemm>> Create() override {
    return StreamGemm::Create(stream_);
  }
  absl::Status Multiply(const PlainGemmParams& params) override {
    return gemm_->Run(params);
  }
};

TEST_P(StreamGemmTest, AgreesWithTheReferenceOnTilesOfSeveralBlocks) {
  const int64_t tokens = GetParam();
  const ProductCase kCases[] = {{1, 16, 8},
                                {tokens - 1, 144, 72},
                                {tokens - 3, 400, 200},
                                {tokens, 272, 1032}};
  for (const ProductCase& c : kCases) {
    for (const ProductKind kind : kProductKinds) {
      ASSERT_TRUE(World().AgreesWithReference(c, kind));
    }
  }
}

// More tiles than any Hopper GPU has multiprocessors.
TEST_P(StreamGemmTest, AgreesWithTheReferenceOnBlocksOfSeveralTiles) {
  for (const ProductKind kind : {ProductKind::kAdds, ProductKind::kGated}) {
    ASSERT_TRUE(
        World().AgreesWithReference({GetParam(), 128 * 165 + 16, 40}, kind));
  }
}

TEST_P(StreamGemmTest, AddsInTheSameOrderEachTime) {
  EXPECT_TRUE(World().Repeats({GetParam(), 528, 2056}));
}

INSTANTIATE_TEST_SUITE_P(Tokens, StreamGemmTest,
                         testing::ValuesIn(kStreamTokens),
                         [](const auto& info) {
                           return "TilesOf" + std::to_string(info.param);
                         });

}  // namespace
}  // namespace quire
