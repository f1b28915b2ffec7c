// SPDX-License-Identifier: Apache-2.0
#include "coordinator/scheduler/orca.h"

#include "coordinator/scheduler/reserved_pass.h"

namespace quire {

void Orca::Schedule(const View& view, Decision* decision) const {
  ReservedPass pass(view, decision);
  pass.ScheduleDecodes();
  pass.ScheduleChunks();
  pass.Admit();
}

}  // namespace quire
