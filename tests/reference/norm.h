// SPDX-License-Identifier: Apache-2.0
//
// Double-precision references of RMS and layer normalisation.
#ifndef TESTS_REFERENCE_NORM_H_
#define TESTS_REFERENCE_NORM_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace quire::reference {

// One row. weight and bias are as long as x, or empty (ones, zeros).
inline std::vector<double> Norm(const std::vector<double>& x,
                                const std::vector<double>& weight,
                                const std::vector<double>& bias, double epsilon,
                                bool subtract_mean) {
  double mean = 0.0;
  if (subtract_mean) {
    for (double value : x) mean += value;
    mean /= x.size();
  }
  double variance = 0.0;
  for (double value : x) variance += (value - mean) * (value - mean);
  variance /= x.size();
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) {
    double value = (x[i] - mean) / std::sqrt(variance + epsilon);
    if (!weight.empty()) value *= weight[i];
    if (!bias.empty()) value += bias[i];
    out.push_back(value);
  }
  return out;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_NORM_H_
