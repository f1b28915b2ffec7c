// SPDX-License-Identifier: Apache-2.0
//
// Our own products of some rows, for every width of a panel that there is a
// kernel for, whole and split.
#include "kernels/cuda/panel_gemm.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/kernels/cuda/own_product_world.h"

namespace quire {
namespace {

class PanelGemmTest : public OwnProductFixture<PanelGemm, PanelPlan> {
 protected:
  absl::StatusOr<std::unique_ptr<PanelGemm>> Create() override {
    return PanelGemm::Create(stream_);
  }
  absl::Status Multiply(const PlainGemmParams& params) override {
    return gemm_->RunAs(GetParam(), params);
  }
};

TEST_P(PanelGemmTest, AgreesWithTheReferenceOnFewPanels) {
  // Fewer pieces than splits, panels that end within the first chunk, rings
  // that go round.
  const ProductCase kCases[] = {{1, 16, 8},      {65, 144, 72},
                                {97, 400, 264},  {128, 272, 1032},
                                {129, 528, 264}, {230, 272, 1032}};
  for (const ProductCase& c : kCases) {
    for (const ProductKind kind : kProductKinds) {
      ASSERT_TRUE(World().AgreesWithReference(c, kind));
    }
  }
}

// More panels than any Hopper GPU has multiprocessors, or pairs of them, unless
// they are split.
TEST_P(PanelGemmTest, AgreesWithTheReferenceOnBlocksOfSeveralPanels) {
  const PanelPlan& plan = GetParam();
  for (const int64_t m : {68, 200}) {
    const int parts = m > kPanelTokens ? 2 : 1;
    const int64_t panels =
        plan.splits == 1 ? 165 / parts : 128 / parts / plan.splits - 1;
    for (const ProductKind kind : {ProductKind::kAdds, ProductKind::kGated}) {
      ASSERT_TRUE(
          World().AgreesWithReference({m, plan.rows * panels + 16, 136}, kind));
    }
  }
}

TEST_P(PanelGemmTest, AddsInTheSameOrderEachTime) {
  EXPECT_TRUE(World().Repeats({127, 528, 2056}));
  EXPECT_TRUE(World().Repeats({256, 528, 2056}));
}

TEST_P(PanelGemmTest, RefusesSplitsThatCannotMeet) {
  const PanelPlan& plan = GetParam();
  if (plan.splits == 1) GTEST_SKIP() << "waits for nobody";
  alignas(16) char nothing[16];
  PlainGemmParams params = {};
  params.x = params.w = params.y = nothing;
  params.n = params.y_stride = int64_t{plan.rows} * 165;
  params.k = params.x_stride = 64;
  params.dtype = params.y_dtype = DType::kBf16;
  for (params.m = 1; params.m <= kMaxPanelTokens; params.m += 255) {
    EXPECT_EQ(gemm_->RunAs(plan, params).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

std::vector<PanelPlan> Plans() {
  std::vector<PanelPlan> plans;
  for (const int32_t rows : kPanelRows) {
    for (const int32_t splits : {1, 3}) plans.push_back({rows, splits});
  }
  plans.push_back({64, 2});
  plans.push_back({128, 4});
  plans.push_back({256, 4});
  plans.push_back({256, 8});
  return plans;
}

INSTANTIATE_TEST_SUITE_P(Plans, PanelGemmTest, testing::ValuesIn(Plans()),
                         [](const auto& info) {
                           const PanelPlan& plan = info.param;
                           return absl::StrCat("PanelsOf", plan.rows, "Splits",
                                               plan.splits);
                         });

class PanelDealTest : public PanelGemmTest {};

// The products of Llama-3.1-8B and Llama-2-13B, whole and in halves.
TEST_P(PanelDealTest, KeepsMultiprocessorsBusy) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{6144, 4096},
                             {4096, 4096},
                             {28672, 4096},
                             {4096, 14336},
                             {128256, 4096},
                             {14336, 4096},
                             {4096, 7168},
                             {15360, 5120},
                             {27648, 5120},
                             {5120, 13824}}) {
    EXPECT_GT(gemm_->UseOf(128, n, k), 0.5) << n << "x" << k;
    EXPECT_LE(gemm_->UseOf(128, n, k), 1.0) << n << "x" << k;
  }
}

INSTANTIATE_TEST_SUITE_P(Any, PanelDealTest,
                         testing::Values(PanelPlan{128, 1}));

}  // namespace
}  // namespace quire
