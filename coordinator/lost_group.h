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
  absl::Status cause;      // names the group if there are several
  bool was_ready = false;  // in this epoch
  // Groups that have not been lost, or are back: ready or on their way.
  int32_t num_left = 0;
  // Groups, lost ones too, but for those that could not begin and would fail
  // again: see MayBegin.
  int32_t num_hopeful = 0;
};

// Whether a group whose epoch ended so may begin another. What could not begin
// for a reason of its own, such as a truncated file, would fail again, until
// somebody mends it.
bool MayBegin(const absl::Status& cause, bool was_ready);

// Whether nothing is left to serve with, or to hope for. `reform`: lost groups
// may be joined again.
bool EndsService(const LostGroup& lost, bool reform);

}  // namespace quire

#endif  // COORDINATOR_LOST_GROUP_H_
