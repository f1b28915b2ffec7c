// SPDX-License-Identifier: Apache-2.0
//
// Cosines and sines of rotary position embedding (RoFormer, arXiv 2104.09864).
#ifndef WORKER_MODEL_ROPE_TABLE_H_
#define WORKER_MODEL_ROPE_TABLE_H_

#include <cstdint>
#include <vector>

#include "common/model_config.h"

namespace quire {

// Angle per position of each pair of elements, scaling applied: [dim / 2].
// `length`: the longest sequence that there may be, which decides how those
// scalings turn that ask for it (RopeConfig).
std::vector<double> RopeFrequencies(const RopeConfig& rope, int32_t dim,
                                    int32_t length);

// [num_positions, dim]: a row is dim / 2 cosines, then as many sines, of
// sequences of up to num_positions tokens. Computed in double, so that far
// positions are exact. REQUIRES: dim is even.
std::vector<float> MakeRopeTable(const RopeConfig& rope, int32_t dim,
                                 int32_t num_positions);

}  // namespace quire

#endif  // WORKER_MODEL_ROPE_TABLE_H_
