// SPDX-License-Identifier: Apache-2.0
#include "tools/sparse_attention/logit_difference.h"

#include <algorithm>
#include <cmath>

#include "glog/logging.h"

namespace quire {
namespace {

// log(sum of e^x).
double LogSum(absl::Span<const float> x, float max) {
  double sum = 0;
  for (float logit : x) sum += std::exp(double{logit} - max);
  return max + std::log(sum);
}

}  // namespace

void LogitDifference::Add(absl::Span<const float> want,
                          absl::Span<const float> got) {
  CHECK_EQ(want.size(), got.size());
  CHECK(!want.empty());
  const auto want_top = std::max_element(want.begin(), want.end());
  const auto got_top = std::max_element(got.begin(), got.end());
  const double want_sum = LogSum(want, *want_top);
  const double got_sum = LogSum(got, *got_top);
  double kl = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double difference = std::abs(double{want[i]} - double{got[i]});
    max_ = std::max(max_, difference);
    sum_ += difference;
    const double log_want = want[i] - want_sum;
    kl += std::exp(log_want) * (log_want - (got[i] - got_sum));
  }
  // Rounding may leave a divergence of nothing below zero.
  sum_kl_ += std::max(0.0, kl);
  num_same_top_ += want_top - want.begin() == got_top - got.begin();
  num_logits_ += static_cast<int64_t>(want.size());
  ++num_rows_;
}

}  // namespace quire
