// SPDX-License-Identifier: Apache-2.0
#include "coordinator/lost_group.h"

namespace quire {

bool EndsService(const LostGroup& lost, bool reform) {
  // Groups that have run leave the others to go on.
  if (!reform) return !lost.was_ready || lost.num_left == 0;
  // What did not come up for a reason of its own would fail again; but that is
  // no reason to take the workers from clients who have some.
  const bool may_recover = lost.was_ready || absl::IsUnavailable(lost.cause);
  return !may_recover && lost.num_ready == 0;
}

}  // namespace quire
