// SPDX-License-Identifier: Apache-2.0
//
// Random numbers that are the same on every machine: the standard fixes the
// engine's numbers but leaves its distributions to each library.
#ifndef TOOLS_LOADGEN_RANDOM_H_
#define TOOLS_LOADGEN_RANDOM_H_

#include <cstdint>
#include <random>

namespace quire {

// Thread-compatible.
class Random {
 public:
  // Different `stream`s of one seed are independent.
  Random(uint64_t seed, uint64_t stream);

  // Evenly from (0, 1).
  double Uniform();
  // Evenly from [low, high]. REQUIRES: low <= high.
  int64_t UniformInt(int64_t low, int64_t high);
  // Mean 0, variance 1.
  double Normal();
  // Mean shape * scale. REQUIRES: shape > 0.
  double Gamma(double shape, double scale);

 private:
  std::mt19937_64 engine_;
};

}  // namespace quire

#endif  // TOOLS_LOADGEN_RANDOM_H_
