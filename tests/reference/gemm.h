// SPDX-License-Identifier: Apache-2.0
//
// Double-precision reference of the matrix product.
#ifndef TESTS_REFERENCE_GEMM_H_
#define TESTS_REFERENCE_GEMM_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace quire::reference {

struct GemmResult {
  std::vector<double> y;  // [m, n]
  // [m, n] sum of |x w|: float rounding errors are proportional to it.
  std::vector<double> magnitude;
};

// y = x W^T + bias. x is [m, k], w [n, k], bias [n] or empty.
inline GemmResult Gemm(const std::vector<double>& x,
                       const std::vector<double>& w,
                       const std::vector<double>& bias, int64_t m, int64_t n,
                       int64_t k) {
  GemmResult result;
  for (int64_t row = 0; row < m; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      double sum = bias.empty() ? 0.0 : bias[column];
      double magnitude = std::abs(sum);
      for (int64_t i = 0; i < k; ++i) {
        const double product = x[row * k + i] * w[column * k + i];
        sum += product;
        magnitude += std::abs(product);
      }
      result.y.push_back(sum);
      result.magnitude.push_back(magnitude);
    }
  }
  return result;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_GEMM_H_
