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

// NotFound if there is no such file; InvalidArgument if it is no recording, of
// another format, or not readable any more at some record.
absl::StatusOr<ReplayReport> Replay(const std::string& path);

}  // namespace quire

#endif  // TOOLS_REPLAY_REPLAYER_H_
