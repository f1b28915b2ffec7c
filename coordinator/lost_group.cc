// SPDX-License-Identifier: Apache-2.0
#include "coordinator/lost_group.h"

namespace quire {

bool MayBegin(const absl::Status& cause, bool was_ready) {
  return was_ready || absl::IsUnavailable(cause);
}

bool EndsService(const LostGroup& lost, bool reform) {
  // No reason to take the workers from clients of other groups.
  if (reform) return lost.num_hopeful == 0;
  // Groups that have run leave the others to go on.
  return !lost.was_ready || lost.num_left == 0;
}

}  // namespace quire
