// SPDX-License-Identifier: Apache-2.0
#include "tools/loadgen/random.h"

#include <cmath>
#include <numbers>

namespace quire {
namespace {

// SplitMix64's step: neighbouring seeds give unrelated engines.
uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

}  // namespace

Random::Random(uint64_t seed, uint64_t stream)
    : engine_(Mix(Mix(seed) ^ stream)) {}

double Random::Uniform() {
  // The middle of one of 2^53 equal cells: never 0, never 1.
  return ((engine_() >> 11) + 0.5) * 0x1p-53;
}

int64_t Random::UniformInt(int64_t low, int64_t high) {
  const uint64_t num_values = static_cast<uint64_t>(high - low) + 1;
  // Refuses the incomplete last run of values, so that none is favoured.
  const uint64_t limit = UINT64_MAX - UINT64_MAX % num_values;
  uint64_t draw;
  do {
    draw = engine_();
  } while (draw >= limit);
  return low + static_cast<int64_t>(draw % num_values);
}

double Random::Normal() {
  // Box and Muller 1958.
  const double radius = std::sqrt(-2 * std::log(Uniform()));
  return radius * std::cos(2 * std::numbers::pi * Uniform());
}

double Random::Gamma(double shape, double scale) {
  if (shape < 1) {
    // Gamma(a) = Gamma(a + 1) * U^(1/a).
    const double factor = std::pow(Uniform(), 1 / shape);
    return factor * Gamma(shape + 1, scale);
  }
  // Marsaglia and Tsang, "A simple method for generating gamma variables",
  // 2000.
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = Normal();
    const double v = std::pow(1 + c * x, 3);
    if (v <= 0) continue;
    if (std::log(Uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return d * v * scale;
    }
  }
}

}  // namespace quire
