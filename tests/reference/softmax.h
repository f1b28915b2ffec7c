// SPDX-License-Identifier: Apache-2.0
//
// Double-precision reference of softmax.
#ifndef TESTS_REFERENCE_SOFTMAX_H_
#define TESTS_REFERENCE_SOFTMAX_H_

#include <algorithm>
#include <cmath>
#include <vector>

namespace quire::reference {

// REQUIRES: scores is not empty.
inline std::vector<double> Softmax(const std::vector<double>& scores) {
  const double max = *std::max_element(scores.begin(), scores.end());
  std::vector<double> weights;
  double sum = 0.0;
  for (double score : scores) {
    weights.push_back(std::exp(score - max));
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_SOFTMAX_H_
