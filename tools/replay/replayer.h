// SPDX-License-Identifier: Apache-2.0
//
// Decides again what a recorded engine decided, from what it heard, and
// compares every plan with the recorded digest. No workers, no clock.
#ifndef TOOLS_REPLAY_REPLAYER_H_
#define TOOLS_REPLAY_REPLAYER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/step_plan.h"
#include "coordinator/engine/engine_client.h"
#include "coordinator/engine/engine_metrics.h"

namespace quire {

struct ReplayReport {
  int64_t num_records = 0;
  int64_t num_requests = 0;
  int64_t num_results = 0;
  int64_t num_plans = 0;  // compared and equal
  double recorded_s = 0;  // from the first record to the last
  // The file ends in the middle of a record, or says that the rest is missing:
  // its process was killed, or its disk was too slow.
  bool cut_off = false;
  // Of the first plan that differs: where, what was recorded, what came out,
  // and what had happened before. Empty: none does.
  std::string difference;
};

// Hears what happens once more, each event right after the engine has dealt
// with it. `now` is the time that was recorded.
class ReplayWatcher {
 public:
  virtual ~ReplayWatcher() = default;
  virtual void OnRequest(const EngineRequest& /*request*/, absl::Time /*now*/) {
  }
  // A plan that equals the recorded one.
  virtual void OnPlan(const StepPlan& /*plan*/, const EngineStats& /*stats*/,
                      absl::Time /*now*/) {}
  virtual void OnResult(StepId /*step*/, absl::Time /*now*/) {}
  virtual void OnEnded(const RequestSample& /*sample*/) {}
};

// NotFound if there is no such file; InvalidArgument if it is no recording, of
// another format, or not readable any more at some record. `watcher` may be
// null.
absl::StatusOr<ReplayReport> Replay(const std::string& path,
                                    ReplayWatcher* watcher = nullptr);

}  // namespace quire

#endif  // TOOLS_REPLAY_REPLAYER_H_
