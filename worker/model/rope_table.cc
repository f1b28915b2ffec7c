// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rope_table.h"

#include <cmath>

#include "glog/logging.h"

namespace quire {
namespace {

// Llama 3.1's stretching: waves longer than the trained window are slowed by
// the factor, short ones are kept, those between are mixed.
double Llama3Frequency(const RopeConfig& rope, double frequency) {
  const double wavelength = 2 * M_PI / frequency;  // tokens
  const double window = rope.original_max_position;
  const double slowed = frequency / rope.factor;
  if (wavelength < window / rope.high_freq_factor) return frequency;
  if (wavelength > window / rope.low_freq_factor) return slowed;
  const double kept = (window / wavelength - rope.low_freq_factor) /
                      (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - kept) * slowed + kept * frequency;
}

}  // namespace

std::vector<double> RopeFrequencies(const RopeConfig& rope, int32_t dim) {
  CHECK_EQ(dim % 2, 0);
  std::vector<double> frequencies(static_cast<size_t>(dim / 2));
  for (int32_t i = 0; i < dim / 2; ++i) {
    double frequency = std::pow(rope.theta, -2.0 * i / dim);
    switch (rope.scaling) {
      case RopeConfig::Scaling::kNone:
        break;
      case RopeConfig::Scaling::kLinear:
        frequency /= rope.factor;
        break;
      case RopeConfig::Scaling::kLlama3:
        frequency = Llama3Frequency(rope, frequency);
        break;
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

std::vector<float> MakeRopeTable(const RopeConfig& rope, int32_t dim,
                                 int32_t num_positions) {
  const std::vector<double> frequencies = RopeFrequencies(rope, dim);
  std::vector<float> table(static_cast<size_t>(num_positions) * dim);
  for (int32_t position = 0; position < num_positions; ++position) {
    float* row = table.data() + static_cast<int64_t>(position) * dim;
    for (int32_t i = 0; i < dim / 2; ++i) {
      const double angle = position * frequencies[i];
      row[i] = static_cast<float>(std::cos(angle));
      row[dim / 2 + i] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

}  // namespace quire
