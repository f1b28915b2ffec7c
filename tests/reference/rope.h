// SPDX-License-Identifier: Apache-2.0
//
// Double-precision reference of rotary position embedding (RoFormer, 2021), in
// the layout that pairs element i with i + rotary_dim / 2.
#ifndef TESTS_REFERENCE_ROPE_H_
#define TESTS_REFERENCE_ROPE_H_

#include <cstdint>
#include <vector>

namespace quire::reference {

// One head; cos and sin hold rotary_dim / 2 values each. Elements from
// rotary_dim on stay as they are.
inline std::vector<double> Rope(const std::vector<double>& head,
                                const std::vector<double>& cos,
                                const std::vector<double>& sin) {
  const int64_t half = cos.size();
  std::vector<double> out = head;
  for (int64_t i = 0; i < half; ++i) {
    out[i] = head[i] * cos[i] - head[half + i] * sin[i];
    out[half + i] = head[half + i] * cos[i] + head[i] * sin[i];
  }
  return out;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_ROPE_H_
