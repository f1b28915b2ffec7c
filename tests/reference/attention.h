// SPDX-License-Identifier: Apache-2.0
//
// Double-precision reference of attention for one query row, with no tiles, no
// pages and no online softmax.
#ifndef TESTS_REFERENCE_ATTENTION_H_
#define TESTS_REFERENCE_ATTENTION_H_

#include <cstdint>
#include <vector>

#include "tests/reference/softmax.h"

namespace quire::reference {

// softmax(scale q . k) v over all given positions. q is [head_dim]; keys and
// values hold one [head_dim] row per position the query may attend to.
inline std::vector<double> Attention(
    const std::vector<double>& q, const std::vector<std::vector<double>>& keys,
    const std::vector<std::vector<double>>& values, double scale) {
  std::vector<double> scores;
  for (const std::vector<double>& key : keys) {
    double score = 0.0;
    for (size_t i = 0; i < q.size(); ++i) score += q[i] * key[i];
    scores.push_back(score * scale);
  }
  const std::vector<double> weights = Softmax(scores);
  std::vector<double> out(q.size(), 0.0);
  for (size_t p = 0; p < values.size(); ++p) {
    for (size_t i = 0; i < q.size(); ++i) out[i] += weights[p] * values[p][i];
  }
  return out;
}

}  // namespace quire::reference

#endif  // TESTS_REFERENCE_ATTENTION_H_
