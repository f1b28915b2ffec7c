// SPDX-License-Identifier: Apache-2.0
//
// What an iteration computes while a group must run alone: one under which
// worker groups were lost, which is to show that it was not the reason. Nobody
// else may be there when it is computed, so nobody else is harmed, or blamed.
#ifndef COORDINATOR_SCHEDULER_RUN_ALONE_H_
#define COORDINATOR_SCHEDULER_RUN_ALONE_H_

#include "coordinator/scheduler/policy.h"

namespace quire {

// Decides as `policy` does for a cluster that has that one group: the first in
// the view's order, until it no longer runs alone. Those that run make room
// first, at once if the policy preempts, else by ending; then what is in flight
// of them, if `results_in_flight`, has to be known. Pure, as policies are.
// REQUIRES: a group of the view runs_alone; `decision` is empty.
void ScheduleAlone(const SchedulingPolicy& policy, const View& view,
                   bool results_in_flight, Decision* decision);

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_RUN_ALONE_H_
