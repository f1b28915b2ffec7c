// SPDX-License-Identifier: Apache-2.0
#include "worker/model/rope_table.h"

#include <algorithm>
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

// NTK-aware scaling: the base grows with the length, so that the slowest pairs
// are stretched by the factor and the fastest are kept.
double DynamicTheta(const RopeConfig& rope, int32_t dim, int32_t length) {
  const double seen = std::max(length, rope.original_max_position);
  const double stretch =
      rope.factor * seen / rope.original_max_position - (rope.factor - 1);
  return rope.theta * std::pow(stretch, dim / (dim - 2.0));
}

// YaRN's ramp over pairs: those before `low` are kept, those behind `high` are
// slowed by the factor.
struct YarnRamp {
  YarnRamp(const RopeConfig& rope, int32_t dim)
      : low(PairOf(rope, dim, rope.beta_fast)),
        high(PairOf(rope, dim, rope.beta_slow)) {
    if (rope.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, dim - 1.0);
    if (low == high) high += 0.001;  // as transformers has it
  }

  // The pair that turns so often within the trained positions.
  static double PairOf(const RopeConfig& rope, int32_t dim, double turns) {
    return dim * std::log(rope.original_max_position / (turns * 2 * M_PI)) /
           (2 * std::log(rope.theta));
  }

  double Slowed(int32_t pair) const {
    return std::clamp((pair - low) / (high - low), 0.0, 1.0);
  }

  double low;
  double high;
};

}  // namespace

std::vector<double> RopeFrequencies(const RopeConfig& rope, int32_t dim,
                                    int32_t length) {
  using Scaling = RopeConfig::Scaling;
  CHECK_EQ(dim % 2, 0);
  const double theta = rope.scaling == Scaling::kDynamic
                           ? DynamicTheta(rope, dim, length)
                           : rope.theta;
  const std::vector<double>& slowed = length > rope.original_max_position
                                          ? rope.long_factors
                                          : rope.short_factors;
  std::vector<double> frequencies(static_cast<size_t>(dim / 2));
  for (int32_t i = 0; i < dim / 2; ++i) {
    double frequency = std::pow(theta, -2.0 * i / dim);
    switch (rope.scaling) {
      case Scaling::kNone:
      case Scaling::kDynamic:
        break;
      case Scaling::kLinear:
        frequency /= rope.factor;
        break;
      case Scaling::kLlama3:
        frequency = Llama3Frequency(rope, frequency);
        break;
      case Scaling::kYarn: {
        const double part = YarnRamp(rope, dim).Slowed(i);
        frequency *= part / rope.factor + (1 - part);
        break;
      }
      case Scaling::kLongRope:
        frequency /= slowed.at(i);
        break;
    }
    frequencies[i] = frequency;
  }
  return frequencies;
}

std::vector<float> MakeRopeTable(const RopeConfig& rope, int32_t dim,
                                 int32_t num_positions) {
  const std::vector<double> frequencies =
      RopeFrequencies(rope, dim, num_positions);
  std::vector<float> table(static_cast<size_t>(num_positions) * dim);
  for (int32_t position = 0; position < num_positions; ++position) {
    float* row = table.data() + static_cast<int64_t>(position) * dim;
    for (int32_t i = 0; i < dim / 2; ++i) {
      const double angle = position * frequencies[i];
      row[i] = static_cast<float>(std::cos(angle) * rope.attention_factor);
      row[dim / 2 + i] =
          static_cast<float>(std::sin(angle) * rope.attention_factor);
    }
  }
  return table;
}

}  // namespace quire
