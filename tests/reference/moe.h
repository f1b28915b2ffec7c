// SPDX-License-Identifier: Apache-2.0
//
// Double-precision reference of a router's choice.
#ifndef TESTS_REFERENCE_MOE_H_
#define TESTS_REFERENCE_MOE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace quire::reference {

struct Route {
  std::vector<int32_t> experts;  // [top_k] by falling weight
  std::vector<double> weights;   // [top_k]
};

// Softmax over all logits, of which the top_k largest remain; equal ones in
// their order.
inline Route RouteToken(const std::vector<double>& logits, int32_t top_k,
                        bool renormalize) {
  Route route;
  route.experts.resize(logits.size());
  std::iota(route.experts.begin(), route.experts.end(), 0);
  std::stable_sort(route.experts.begin(), route.experts.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double all = 0, chosen = 0;
  for (double logit : logits) all += std::exp(logit - logits[route.experts[0]]);
  route.experts.resize(top_k);
  for (int32_t expert : route.experts) {
    route.weights.push_back(
        std::exp(logits[expert] - logits[route.experts[0]]));
    chosen += route.weights.back();
  }
  for (double& weight : route.weights) weight /= renormalize ? chosen : all;
  return route;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_MOE_H_
