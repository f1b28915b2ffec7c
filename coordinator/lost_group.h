// SPDX-License-Identifier: Apache-2.0
//
// What is known when a group's epoch ends, and whether the service ends with
// it.
#ifndef COORDINATOR_LOST_GROUP_H_
#define COORDINATOR_LOST_GROUP_H_

#include <cstdint>

#include "absl/status/status.h"

namespace quire {

// A group's epoch has ended.
struct LostGroup {
  absl::Status cause;
  bool was_ready = false;  // in this epoch
  // Groups that have not been lost, or are back: ready or on their way.
  int32_t num_left = 0;
  int32_t num_ready = 0;  // of them
};

// Whether nothing is left to serve with, or to hope for. `reform`: lost groups
// may be joined again.
bool EndsService(const LostGroup& lost, bool reform);

}  // namespace quire

#endif  // COORDINATOR_LOST_GROUP_H_
