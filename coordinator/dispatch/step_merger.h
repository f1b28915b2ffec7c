// SPDX-License-Identifier: Apache-2.0
//
// Turns the answers of all ranks to one step into one result, and notices when
// the ranks no longer agree.
#ifndef COORDINATOR_DISPATCH_STEP_MERGER_H_
#define COORDINATOR_DISPATCH_STEP_MERGER_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "common/step_plan.h"

namespace quire {

// Thread-compatible.
class StepMerger {
 public:
  // REQUIRES: world_size > 0.
  StepMerger(int32_t world_size, Epoch coordinator_epoch, Epoch group_epoch);

  // A plan went out: its answer may come now.
  void ExpectStep(StepId step_id) { last_sent_ = step_id; }

  // Takes one rank's answer. The whole result once the last rank has answered,
  // in step order: tokens of rank 0, the longest `step_us`. Internal, naming
  // the rank, when it answers another epoch or step than the one due, or when
  // its digests differ from those of the ranks before it.
  absl::StatusOr<std::optional<StepResult>> Add(int32_t rank,
                                                StepResult result);

  // The first rank that has not answered the oldest open step; 0 if none is
  // open.
  int32_t SlowestRank() const;

 private:
  struct Open {
    StepResult result;
    int32_t num_answers = 0;
    int32_t first_rank = 0;  // whose digests the others must match
  };

  absl::Status Check(int32_t rank, const StepResult& result) const;

  const Epoch coordinator_epoch_;
  const Epoch group_epoch_;
  StepId last_sent_;
  StepId last_merged_;
  std::vector<StepId> last_answered_;  // [world_size]
  std::deque<Open> open_;              // steps last_merged_ + 1, + 2 ...
};

}  // namespace quire

#endif  // COORDINATOR_DISPATCH_STEP_MERGER_H_
