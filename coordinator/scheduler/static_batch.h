// SPDX-License-Identifier: Apache-2.0
//
// Static batching, as FasterTransformer is served (SOSP'23, section 6.1): a
// batch is made of whoever waits, as many as memory and slots allow, and runs
// until its longest is done; the places of those that end earlier stay empty.
// The next batch starts then.
//
// A batch is open until the first of it decodes. While it is open, its prompts
// are computed, over as many steps as the token budget makes of them, and those
// that wait come in, in order, until one does not fit; who comes while a step
// runs that was cut short by the budget still comes in. Nobody is preempted.
#ifndef COORDINATOR_SCHEDULER_STATIC_BATCH_H_
#define COORDINATOR_SCHEDULER_STATIC_BATCH_H_

#include "coordinator/scheduler/policy.h"

namespace quire {

class StaticBatch final : public SchedulingPolicy {
 public:
  void Schedule(const View& view, Decision* decision) const override;
  bool preempts() const override { return false; }
};

}  // namespace quire

#endif  // COORDINATOR_SCHEDULER_STATIC_BATCH_H_
