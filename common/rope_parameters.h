// SPDX-License-Identifier: Apache-2.0
//
// Rotary positions as config.json describes them.
#ifndef COMMON_ROPE_PARAMETERS_H_
#define COMMON_ROPE_PARAMETERS_H_

#include "absl/status/status.h"
#include "common/json_fields.h"
#include "common/model_config.h"

namespace quire {

// What an architecture decides, whatever its config says.
struct RopeDefaults {
  double theta = 10000;
  // The rotated part of a head where none is given; 1: the whole head is
  // rotated, and nothing else may be asked for.
  double partial = 1;
};

// Fills in `rope`, `rotary_dim` and how far positions reach. Takes both
// layouts: `rope_parameters` with the base inside (transformers 5), or
// `rope_theta` and `rope_scaling` side by side.
// REQUIRES: `head_dim` and `max_position` are known.
absl::Status ParseRope(const JsonFields& fields, const RopeDefaults& defaults,
                       ModelConfig* config);

}  // namespace quire

#endif  // COMMON_ROPE_PARAMETERS_H_
