// SPDX-License-Identifier: Apache-2.0
//
// PagedFcfs among several tenants. What it does for one tenant is the same;
// between them:
//
//  * Work in prompts (chunks of running ones, then admissions) is given to the
//    tenant of the best level and, among equals, of the least counter, a part
//    of the step's budget at a time, each part charged at once: so a step's
//    budget is shared by weight, and one tenant's long prompts do not fill it.
//    Ageing takes a priority to the best one that waits and no further, so
//    that having waited long does not outweigh having been served much.
//  * Tenants that were served more than a step's prompts beyond the least
//    served one that has groups, waiting or running, share one part of the
//    budget, as long as their priority is no better. So steps stay short for
//    whoever takes less than its share: what it waits for is the step at work.
//    Tenants that are all busy stay within a step of each other, and share all
//    of it.
//  * A tenant holds at most its maximum, but for a group that is alone there.
//  * Blocks beyond its guarantee are borrowed. A head of a tenant within its
//    guarantee that does not fit takes back the last arrived groups of
//    borrowers, and decodes of tenants within theirs go before others'. A
//    group is taken back so at most kMaxReclaims times, and for nobody while
//    the pool is kept for another: so whoever fits alone still finishes.
#ifndef COORDINATOR_SCHEDULER_FAIR_PASS_H_
#define COORDINATOR_SCHEDULER_FAIR_PASS_H_

#include <cstdint>

#include "coordinator/scheduler/policy.h"

namespace quire {

struct FairPassOptions {
  int32_t max_bypasses = 8;
  int32_t bypass_window = 16;  // of each tenant
};

// Preemptions after which a group is as safe as one within a guarantee.
inline constexpr int32_t kMaxReclaims = 4;

// Appends to an empty `decision`; a pure function of the rest.
// REQUIRES: view.tenants is not empty.
void ScheduleFairly(const View& view, const FairPassOptions& options,
                    Decision* decision);

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_FAIR_PASS_H_
