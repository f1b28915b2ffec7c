// SPDX-License-Identifier: Apache-2.0
#include "kernels/moe.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/tensor.h"
#include "tests/kernels/test_backend.h"
#include "tests/reference/gemm.h"
#include "tests/reference/moe.h"

namespace quire {
namespace {

constexpr double kU = 0x1p-24;  // of float

class MoeTest : public PerDtypeTest {};

// What RouteTokens() writes.
struct Routes {
  Routes(int32_t num_tokens, int32_t num_experts, int32_t top_k)
      : weights(num_tokens * top_k, NAN),
        experts(num_tokens * top_k, -1),
        row_tokens(num_tokens * top_k, -1),
        pair_rows(num_tokens * top_k, -1),
        expert_start(num_experts + 1, -1) {}

  std::vector<float> weights;
  std::vector<int32_t> experts, row_tokens, pair_rows, expert_start;
};

Routes Route(Backend& backend, const std::vector<float>& logits, int64_t stride,
             int32_t num_tokens, int32_t num_experts, int32_t top_k,
             bool renormalize) {
  Routes routes(num_tokens, num_experts, top_k);
  const absl::Status status =
      backend.RouteTokens({.logits = logits.data(),
                           .logits_stride = stride,
                           .num_experts = num_experts,
                           .top_k = top_k,
                           .num_tokens = num_tokens,
                           .renormalize = renormalize,
                           .weights = routes.weights.data(),
                           .experts = routes.experts.data(),
                           .row_tokens = routes.row_tokens.data(),
                           .pair_rows = routes.pair_rows.data(),
                           .expert_start = routes.expert_start.data()});
  EXPECT_TRUE(status.ok()) << status;
  return routes;
}

// Each pair has a row of its own, among those of its expert, that is its
// token's.
void ExpectGrouped(const Routes& routes, int32_t num_tokens,
                   int32_t num_experts, int32_t top_k) {
  ASSERT_EQ(routes.expert_start.front(), 0);
  ASSERT_EQ(routes.expert_start.back(), num_tokens * top_k);
  std::vector<bool> is_used(num_tokens * top_k);
  for (int32_t pair = 0; pair < num_tokens * top_k; ++pair) {
    const int32_t expert = routes.experts[pair], row = routes.pair_rows[pair];
    ASSERT_TRUE(expert >= 0 && expert < num_experts);
    ASSERT_GE(row, routes.expert_start[expert]);
    ASSERT_LT(row, routes.expert_start[expert + 1]);
    ASSERT_FALSE(is_used[row]);
    is_used[row] = true;
    ASSERT_EQ(routes.row_tokens[row], pair / top_k);
  }
  for (int32_t t = 0; t < num_tokens; ++t) {
    std::vector<int32_t> chosen(routes.experts.begin() + t * top_k,
                                routes.experts.begin() + (t + 1) * top_k);
    std::sort(chosen.begin(), chosen.end());
    ASSERT_EQ(std::unique(chosen.begin(), chosen.end()), chosen.end());
  }
}

std::vector<float> Logits(int64_t count, uint32_t seed) {
  const Tensor random = Tensor::Random(DType::kF32, count, seed, 2.0f);
  std::vector<float> logits;
  for (int64_t i = 0; i < count; ++i) {
    logits.push_back(static_cast<float>(random[i]));
  }
  return logits;
}

TEST_P(MoeTest, RoutesAsTheReference) {
  const int32_t kSizes[][3] = {{1, 1, 1},    {1, 8, 2},   {5, 60, 4},
                               {37, 128, 8}, {300, 7, 7}, {3, 1024, 32},
                               {700, 8, 2},  {65, 33, 3}, {1100, 160, 6}};
  for (const auto& [num_tokens, num_experts, top_k] : kSizes) {
    for (bool renormalize : {false, true}) {
      SCOPED_TRACE(testing::Message()
                   << num_tokens << " tokens, " << num_experts << " experts");
      const int64_t stride = num_experts + 3;
      const auto logits = Logits(num_tokens * stride, num_tokens);
      const Routes routes = Route(*backend_, logits, stride, num_tokens,
                                  num_experts, top_k, renormalize);
      ExpectGrouped(routes, num_tokens, num_experts, top_k);
      for (int32_t t = 0; t < num_tokens; ++t) {
        const auto first = logits.begin() + t * stride;
        const auto want = reference::RouteToken({first, first + num_experts},
                                                top_k, renormalize);
        for (int32_t i = 0; i < top_k; ++i) {
          ASSERT_EQ(routes.experts[t * top_k + i], want.experts[i]);
          // Exponentials of arguments to |20|, rounded once, err by 20 u and 2
          // ulp of their own; the sum adds u per term, of positive terms.
          ASSERT_NEAR(routes.weights[t * top_k + i], want.weights[i],
                      (30 + num_experts) * kU * want.weights[i] + 1e-37);
        }
      }
    }
  }
}

TEST_P(MoeTest, EqualLogitsGoToTheLowerExpert) {
  const std::vector<float> logits = {1, 3, 3, 3, 0, 3};
  const Routes routes = Route(*backend_, logits, 6, 1, 6, 3, true);
  EXPECT_EQ(routes.experts, (std::vector<int32_t>{1, 2, 3}));
  for (float weight : routes.weights) EXPECT_NEAR(weight, 1.0 / 3, 4 * kU);
}

TEST_P(MoeTest, TokensWithoutNumbersStillHaveExperts) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const auto& [num_experts, top_k] :
       {std::pair(4, 4), std::pair(70, 5), std::pair(4, 1)}) {
    std::vector<float> logits(3 * num_experts, nan);
    for (int32_t e = 0; e < num_experts; ++e) {
      logits[num_experts + e] = e % 2 == 0 ? -inf : nan;
      logits[2 * num_experts + e] = static_cast<float>(e);
    }
    const Routes routes =
        Route(*backend_, logits, num_experts, 3, num_experts, top_k, true);
    ExpectGrouped(routes, 3, num_experts, top_k);
    EXPECT_EQ(routes.experts[2 * top_k], num_experts - 1);
    EXPECT_FALSE(std::isnan(routes.weights[2 * top_k]));
  }
}

TEST_P(MoeTest, ATokensRouteDoesNotDependOnTheOthers) {
  const int32_t num_experts = 60, top_k = 4, num_tokens = 50;
  const auto logits = Logits(num_tokens * num_experts, 5);
  const Routes all = Route(*backend_, logits, num_experts, num_tokens,
                           num_experts, top_k, false);
  for (int32_t t = 0; t < num_tokens; ++t) {
    const auto first = logits.begin() + t * num_experts;
    const Routes one = Route(*backend_, {first, first + num_experts},
                             num_experts, 1, num_experts, top_k, false);
    for (int32_t i = 0; i < top_k; ++i) {
      ASSERT_EQ(one.experts[i], all.experts[t * top_k + i]);
      ASSERT_EQ(one.weights[i], all.weights[t * top_k + i]);
    }
  }
}

// Products of experts.
struct Experts {
  Experts(Backend& backend, DType dtype, int32_t num_experts, int64_t n,
          int64_t k)
      : num_experts(num_experts),
        n(n),
        k(k),
        weights(Tensor::Random(dtype, num_experts * n * k, 77)) {
    // As checkpoints have them: two matrices for each expert.
    std::vector<HostMatrix> stacked;
    const int64_t top = n / 2;
    for (int32_t e = 0; e < num_experts; ++e) {
      stacked.push_back({weights.At(e * n * k), dtype, top, k, k});
      stacked.push_back({weights.At((e * n + top) * k), dtype, n - top, k, k});
    }
    auto made = backend.PackExperts(stacked, num_experts);
    EXPECT_TRUE(made.ok()) << made.status();
    packed = *std::move(made);
  }

  Tensor Multiply(Backend& backend, const Tensor& x,
                  const std::vector<int32_t>* row_tokens,
                  const std::vector<int32_t>& expert_start,
                  DType y_dtype) const {
    const int32_t rows = expert_start.back();
    Tensor y(y_dtype, rows * n);
    const absl::Status status = backend.ExpertGemm(
        {.x = x.data(),
         .row_tokens = row_tokens == nullptr ? nullptr : row_tokens->data(),
         .weight = packed.get(),
         .expert_start = expert_start.data(),
         .y = y.data(),
         .y_dtype = y_dtype,
         .num_experts = num_experts,
         .num_rows = rows});
    EXPECT_TRUE(status.ok()) << status;
    return y;
  }

  int32_t num_experts;
  int64_t n, k;
  Tensor weights;
  std::unique_ptr<PackedWeight> packed;
};

std::vector<int32_t> StartsOf(const std::vector<int32_t>& counts) {
  std::vector<int32_t> starts(counts.size() + 1);
  std::partial_sum(counts.begin(), counts.end(), starts.begin() + 1);
  return starts;
}

// As for other products (tests/kernels/cuda/gemm_test.cc).
double Tolerance(double y, double magnitude, int64_t k, DType y_dtype) {
  return (2 * k + 4) * kU * magnitude +
         2 * UnitRoundoff(y_dtype) * std::abs(y) + 1e-37;
}

TEST_P(MoeTest, ProductsAgreeWithTheReference) {
  const std::vector<std::vector<int32_t>> kCounts = {
      {1},           {0, 3, 0, 1},   {70, 0, 5, 130, 1, 0, 0, 16},
      {0, 0, 0, 41}, {64, 64, 1, 0}, {2, 1, 1, 0, 3, 17, 33, 1, 2}};
  const int64_t kSizes[][2] = {{8, 8}, {72, 136}, {33, 40}, {130, 17}};
  for (const std::vector<int32_t>& counts : kCounts) {
    const std::vector<int32_t> starts = StartsOf(counts);
    const int32_t rows = starts.back(), num_tokens = rows / 2 + 1;
    std::vector<int32_t> row_tokens;
    for (int32_t r = 0; r < rows; ++r) {
      row_tokens.push_back(r * 7 % num_tokens);
    }
    for (const auto& [n, k] : kSizes) {
      const Experts experts(*backend_, GetParam(),
                            static_cast<int32_t>(counts.size()), n, k);
      const Tensor x = Tensor::Random(GetParam(), rows * k, 3);
      for (bool gathers : {false, true}) {
        for (DType y_dtype : {GetParam(), DType::kF32}) {
          SCOPED_TRACE(testing::Message()
                       << counts.size() << " experts, n " << n << " k " << k
                       << (gathers ? " gathered" : ""));
          const Tensor y = experts.Multiply(
              *backend_, x, gathers ? &row_tokens : nullptr, starts, y_dtype);
          for (size_t e = 0; e < counts.size(); ++e) {
            const auto w = experts.weights.Doubles(e * n * k, n * k);
            for (int32_t r = starts[e]; r < starts[e + 1]; ++r) {
              const int64_t from = gathers ? row_tokens[r] : r;
              const auto want =
                  reference::Gemm(x.Doubles(from * k, k), w, {}, 1, n, k);
              for (int64_t i = 0; i < n; ++i) {
                ASSERT_NEAR(y[r * n + i], want.y[i],
                            Tolerance(want.y[i], want.magnitude[i], k, y_dtype))
                    << "expert " << e << " row " << r << " column " << i;
              }
            }
          }
        }
      }
    }
  }
}

TEST_P(MoeTest, AProductsRowDoesNotDependOnTheOthers) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>(136, 264), {31, 50}}) {
    const int32_t num_experts = 3;
    const Experts experts(*backend_, GetParam(), num_experts, n, k);
    const std::vector<int32_t> starts = StartsOf({150, 21, 300});
    const Tensor x = Tensor::Random(GetParam(), starts.back() * k, 8);
    const Tensor all =
        experts.Multiply(*backend_, x, nullptr, starts, DType::kF32);
    for (const std::vector<int32_t>& counts : {std::vector<int32_t>{1, 0, 0},
                                               {0, 1, 1},
                                               {9, 21, 64},
                                               {65, 3, 129}}) {
      std::vector<int32_t> row_tokens;
      for (int32_t e = 0; e < num_experts; ++e) {
        // From the back, so that places differ.
        for (int32_t i = 0; i < counts[e]; ++i) {
          row_tokens.push_back(starts[e + 1] - 1 - i);
        }
      }
      const Tensor some = experts.Multiply(*backend_, x, &row_tokens,
                                           StartsOf(counts), DType::kF32);
      for (size_t r = 0; r < row_tokens.size(); ++r) {
        ASSERT_TRUE(some.SameBits(static_cast<int64_t>(r) * n, all,
                                  row_tokens[r] * n, n))
            << "row " << r;
      }
    }
  }
}

TEST_P(MoeTest, CombinesExpertsInTheOrderOfTheirWeights) {
  const int32_t num_tokens = 9, top_k = 3, width = 1043;
  const int64_t stride = 5;
  for (DType dtype : {GetParam(), DType::kF32}) {
    const Tensor y = Tensor::Random(dtype, num_tokens * top_k * width, 1);
    const Tensor shared = Tensor::Random(dtype, num_tokens * width, 2);
    const auto gates = Logits(num_tokens * stride, 3);
    const auto weights = Logits(num_tokens * top_k, 4);
    std::vector<int32_t> pair_rows;
    for (int32_t pair = 0; pair < num_tokens * top_k; ++pair) {
      pair_rows.push_back(pair * 5 % (num_tokens * top_k));
    }
    for (bool has_shared : {false, true}) {
      for (bool has_gate : {false, true}) {
        Tensor out = shared;  // in place
        ASSERT_TRUE(
            backend_
                ->CombineExperts({.y = y.data(),
                                  .dtype = dtype,
                                  .pair_rows = pair_rows.data(),
                                  .weights = weights.data(),
                                  .shared = has_shared ? out.data() : nullptr,
                                  .gate = has_gate ? gates.data() : nullptr,
                                  .gate_stride = stride,
                                  .out = out.data(),
                                  .width = width,
                                  .top_k = top_k,
                                  .num_tokens = num_tokens})
                .ok());
        for (int32_t t = 0; t < num_tokens; ++t) {
          const double gate =
              has_gate ? 1 / (1 + std::exp(-gates[t * stride])) : 1;
          for (int32_t c = 0; c < width; ++c) {
            double want = has_shared ? gate * shared[t * width + c] : 0;
            double magnitude = std::abs(want);
            for (int32_t i = 0; i < top_k; ++i) {
              const double part =
                  weights[t * top_k + i] *
                  y[int64_t{pair_rows[t * top_k + i]} * width + c];
              want += part;
              magnitude += std::abs(part);
            }
            // A rounding for each product and sum; some of the gate's own.
            ASSERT_NEAR(out[t * width + c], want,
                        (2 * top_k + 16) * kU * magnitude +
                            UnitRoundoff(dtype) * std::abs(want));
          }
        }
      }
    }
  }
}

TEST_P(MoeTest, NoTokensAreNoWork) {
  const Routes routes = Route(*backend_, {}, 4, 0, 4, 2, true);
  EXPECT_EQ(routes.expert_start, (std::vector<int32_t>{0, 0, 0, 0, 0}));
  const Experts experts(*backend_, GetParam(), 4, 8, 8);
  const Tensor x(GetParam(), 0);
  experts.Multiply(*backend_, x, nullptr, routes.expert_start, GetParam());
  CombineExpertsParams params = {};
  params.top_k = 2;
  EXPECT_TRUE(backend_->CombineExperts(params).ok());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, MoeTest,
                         testing::Values(DType::kF32, DType::kBf16), DtypeName);

}  // namespace
}  // namespace quire
