// SPDX-License-Identifier: Apache-2.0
//
// Double-precision references of the activations.
#ifndef TESTS_REFERENCE_ACTIVATION_H_
#define TESTS_REFERENCE_ACTIVATION_H_

#include <cmath>

namespace quire::reference {

inline double Silu(double x) { return x / (1.0 + std::exp(-x)); }

inline double Relu(double x) { return x > 0.0 ? x : 0.0; }

inline double Gelu(double x) {
  return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
}

inline double GeluTanh(double x) {
  const double u = std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(u));
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_ACTIVATION_H_
