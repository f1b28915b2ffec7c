// SPDX-License-Identifier: Apache-2.0
//
// What a backend has that brings nothing of its own: recordings that are called
// again, and gated products in two steps.
#include "kernels/backend.h"

#include <cmath>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"

namespace quire {
namespace {

TEST(BackendTest, ARecordingIsCalledAsOftenAsItIsReplayed) {
  const auto backend = MakeTestBackend(DType::kF32);
  int num_calls = 0;
  auto recording = backend->Record([&num_calls] {
    ++num_calls;
    return absl::OkStatus();
  });
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ(num_calls, 0);  // recorded, not run
  for (int i = 1; i <= 3; ++i) {
    EXPECT_TRUE(backend->Replay(recording->get()).ok());
    EXPECT_EQ(num_calls, i);
  }
}

TEST(BackendTest, AReplayFailsAsItsCallsDo) {
  const auto backend = MakeTestBackend(DType::kF32);
  absl::Status next = absl::InternalError("norm: misaligned");
  auto recording = backend->Record([&next] { return next; });
  ASSERT_TRUE(recording.ok());
  EXPECT_EQ(backend->Replay(recording->get()), next);
  next = absl::OkStatus();
  EXPECT_TRUE(backend->Replay(recording->get()).ok());
}

class GatedGemmTest : public PerDtypeTest {};

// Exact: both ways round the products to the model dtype and then take silu.
TEST_P(GatedGemmTest, IsTheProductAndThenItsActivation) {
  for (const auto& [m, half, k] :
       std::vector<std::tuple<int32_t, int64_t, int64_t>>{
           {1, 1, 1}, {3, 17, 33}, {33, 40, 65}}) {
    const Tensor x = Tensor::Random(GetParam(), m * k, 1);
    const Tensor gate = Tensor::Random(GetParam(), half * k, 2);
    const Tensor up = Tensor::Random(GetParam(), half * k, 3);
    const auto weight =
        backend_->PackGated({gate.data(), GetParam(), half, k, k},
                            {up.data(), GetParam(), half, k, k});
    ASSERT_TRUE(weight.ok()) << weight.status();
    Tensor products(GetParam(), m * 2 * half), y(GetParam(), m * half);
    ASSERT_TRUE(backend_
                    ->GatedGemm({.x = x.data(),
                                 .weight = weight->get(),
                                 .products = products.data(),
                                 .y = y.data(),
                                 .m = m})
                    .ok());
    Tensor expected_products(GetParam(), m * 2 * half);
    Tensor expected(GetParam(), m * half);
    ASSERT_TRUE(backend_
                    ->Gemm({.x = x.data(),
                            .x_stride = k,
                            .weight = weight->get(),
                            .bias = nullptr,
                            .y = expected_products.data(),
                            .y_stride = 2 * half,
                            .y_dtype = GetParam(),
                            .m = m})
                    .ok());
    ASSERT_TRUE(backend_
                    ->Activation({.kind = ActivationKind::kSiluMul,
                                  .x = expected_products.data(),
                                  .out = expected.data(),
                                  .width = static_cast<int32_t>(half),
                                  .num_tokens = m})
                    .ok());
    for (int64_t i = 0; i < m * half; ++i) {
      ASSERT_EQ(y[i], expected[i]) << "m " << m << " element " << i;
      ASSERT_FALSE(std::isnan(y[i]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, GatedGemmTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
